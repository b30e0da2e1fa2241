// Tells the gateway named by the first argument of a basket that was filled at the moment of the third, and left.
'use strict'

const { createRequire } = require('node:module')

const [host, userId, filledAt, timezone, installed] = process.argv.slice(2)
const { Analytics } = createRequire(`${installed}/package.json`)('@segment/analytics-node')

const analytics = new Analytics({ writeKey: 'a-write-key', host, maxRetries: 0, disable: false })
analytics.on('error', (error) => {
  console.error(error)
  process.exitCode = 1
})

const timestamp = new Date(Number(filledAt))
const context = { consent: { categoryPreferences: { marketing: true } } }
analytics.identify({ userId, traits: { country: 'IN', timezone, phone: '+919812345678' }, context, timestamp })
analytics.track({ userId, event: 'Product Viewed', properties: { product_id: 'p1' }, timestamp })
analytics.track({ userId, event: 'Product Viewed', properties: { product_id: 'p2' }, timestamp })
analytics.track({ userId, event: 'Cart Updated', properties: { cart_id: 'k1', total: 80.5, item_name: 'Day pack' }, timestamp })

analytics.closeAndFlush({ timeout: 10000 }).then(() => console.log('sent'))
