// Sends one call of each kind to the gateway named by the first argument, then says so and ends.
'use strict'

const { createRequire } = require('node:module')

const [host, writeKey, installed] = process.argv.slice(2)
const { Analytics } = createRequire(`${installed}/package.json`)('@segment/analytics-node')

const analytics = new Analytics({ writeKey, host, maxRetries: 0, disable: false })
analytics.on('error', (error) => {
  console.error(error)
  process.exitCode = 1
})

const userId = 'node-1'
const timestamp = new Date('2026-03-02T04:30:00Z')
analytics.track({ userId, event: 'Lead Submitted', properties: { budget: 4500000, city: 'Bengaluru' }, timestamp })
analytics.track({ userId, event: 'cartUpdated', properties: { cart_id: 'k1', total: 80.5 }, timestamp })
analytics.identify({ userId, anonymousId: 'anon-7', traits: { country: 'IN' }, timestamp })
analytics.page({ userId, name: 'Pricing', properties: { path: '/pricing' }, timestamp })
analytics.screen({ userId, name: 'Basket', timestamp })
analytics.group({ userId, groupId: 'acme', traits: { plan: 'pro' }, timestamp })
analytics.alias({ userId, previousId: 'anon-7', timestamp })

analytics.closeAndFlush({ timeout: 10000 }).then(() => console.log('sent'))
