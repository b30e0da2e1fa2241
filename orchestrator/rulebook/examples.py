"""Examples of the rule language that are written by hand: what no shipped rule shows, or shows over many lines."""

from __future__ import annotations

from collections.abc import Mapping

from orchestrator.rulebook.models import capacity, case, companion, condition, journey, limit, play, trigger
from orchestrator.rulebook.models.part import Part

#: What no rule of the rulebook shows, or shows only over many lines.
PARTS_BY_HAND: Mapping[type[Part], str] = {
    journey.JourneyFile: """
        journey: welcome
        title: From sign-up to first order
        key: event.account_id
        stages:
          joined:  {on: {event: signed_up}}
          ordered: {on: {event: order_completed}, goal: true}
        reentry: {after: 30d}
        goal_window: 14d
        on_edit: pin
        rules:
          - id: hello
            on: {enter: joined}
            do: [{send: {connector: email, template: hello}}]
        """,
    journey.StagePart: """
        on: {event: order_completed}
        goal: true
        final: true
        value: event.total
        moment_of_truth: true
        touchpoint: web
        owner: shop
        """,
    journey.RulePart: """
        id: hello
        title: Say hello in the morning
        on: {event: signed_up}
        acts: anytime
        restart: true
        when: {in_segment: new_here}
        do: [{wait: {until: "09:00"}}, {send: {connector: email, template: hello}}]
        exit_when: {event: order_completed}
        limits: {use: polite, consent: [marketing]}
        arbitrate: {slot: contact, value: 5}
        lateness: 2h
        """,
    trigger.DwellTrigger: "dwell: {stage: checkout, for: 1d}",
    trigger.AbsenceTrigger: "absence: {after: cart_updated, of: order_completed, for: 30m}",
    trigger.Absence: """
        after: cart_updated
        of: order_completed
        for: 30m
        rearm: latest
        same: event.cart_id
        after_where: {field: event.total, op: gte, value: 40}
        of_where: {field: event.total, op: gt, value: 0}
        """,
    trigger.SequenceTrigger: """
        sequence:
          steps: [{event: search}, {not: item_viewed}, {event: search}]
          within: 5m
        """,
    trigger.Sequence: """
        steps: [{event: search}, {not: item_viewed}, {event: search}]
        within: 5m
        same: event.session_id
        """,
    trigger.SequenceGap: "not: [item_viewed, order_completed]",
    trigger.Schedule: """
        at: "09:30"
        days: [mon, wed, fri]
        zone: profile
        """,
    trigger.FrictionTrigger: "friction: {stage: checkout, over: 70}",
    trigger.Friction: "{stage: checkout, over: 70}",
    trigger.ExitEvent: "{event: order_completed, where: {field: event.total, op: gt, value: 0}}",
    condition.AllCondition: "all: [{in_segment: adults}, {in_stage: [basket]}]",
    condition.AnyCondition: "any: [{in_segment: adults}, {in_segment: staff}]",
    condition.CountCondition: """
        count: payment_failed
        within: 10m
        op: gte
        value: 3
        where: {field: event.reason, op: ne, value: timeout}
        """,
    condition.SumCondition: """
        sum: order_completed
        of: event.total
        within: 90d
        op: gte
        value: 500
        where: {field: event.currency, op: eq, value: EUR}
        """,
    condition.SinceLastCondition: """
        since_last: order_completed
        op: gte
        value: 30d
        if_never: true
        where: {field: event.total, op: gt, value: 0}
        """,
    condition.SinceFirstCondition: """
        since_first: signed_up
        op: lt
        value: 7d
        if_never: false
        where: {field: event.plan, op: eq, value: pro}
        """,
    condition.FirstCondition: "{first: order_completed, where: {field: event.total, op: gt, value: 0}}",
    condition.StageCondition: "{in_stage: [basket, checkout], journey: purchase}",
    condition.ScoreCondition: "{score: churn, op: lt, value: 0.2, default: 1}",
    play.StepPart: """
        case: offer
        if: {in_stage: [basket]}
        then: [{send: {connector: sms, template: hello}}]
        else: [{exit: true}]
        """,
    play.WaitUntil: "{until: event.starts_at, offset: -2h, zone: profile, if_past: skip}",
    play.WaitForPart: """
        event: email_opened
        within: 1d
        where: {field: event.action_id, op: exists}
        else: [{send: {connector: push, template: hello}}]
        """,
    play.SendPart: """
        connector: sms
        template: hello
        params: {code: BACK10}
        priority: 80
        deadline: 4h
        consent: [service]
        fallback: [{connector: email, template: hello}]
        fallback_on_unknown: true
        """,
    limit.LimitsPart: """
        use: [polite]
        consent: [marketing]
        cooldown: 3d
        cap: {max: 2, per: 7d, of: "kind:sms"}
        quiet_hours: {from: "21:00", to: "08:00"}
        """,
    limit.ArbitratePart: """
        slot: contact
        value: 12
        weight: +20%
        propensity: 0.3
        context: {stage: {basket: +30}}
        decision_window: 5s
        """,
    limit.LearnPart: "{learn: win-back, reward: order_completed, horizon: 7d, segments: [big_team]}",
    limit.ContextPart: """
        stage: {basket: +30}
        segment: {big_team: -50}
        levers: [{when: {in_segment: staff}, lever: -100}]
        """,
    case.CasesFile: """
        cases:
          - case: a hello for who signs up
            events: [{at: "2026-03-02T10:00:00+05:30", type: signed_up}]
            expect: {actions: [{connector: email, at: "+0s"}]}
        """,
    case.CasePart: """
        case: a hello for who signs up
        customer: {id: c1, consents: {marketing: true}}
        events: [{at: "2026-03-02T10:00:00+05:30", type: signed_up}]
        until: "+2h"
        expect: {actions: []}
        """,
    case.CustomerPart: "{id: c1, traits: {country: IN}, consents: {marketing: true}}",
    case.CaseEventPart: """
        at: "+5m"
        received: +6s
        type: order_completed
        id: order-1
        properties: {total: 80}
        context: {consent: {categoryPreferences: {sms: true}}}
        """,
    case.ExpectPart: """
        actions: [{connector: sms, at: "+30m"}]
        stage: {purchase/k1: basket}
        decisions: [{rule: hello, outcome: sent}]
        """,
    case.ExpectedActionPart: """
        connector: sms
        rule: hello
        template: hello
        kind: sms
        at: "+30m"
        variant: nudge
        params: {to: "+919812345678"}
        cancel: false
        """,
    companion.TrackingPlanFile: """
        events: {signed_up: {properties: {plan: string}}}
        traits: {country: string}
        consents: {marketing: Offers on any channel.}
        """,
    companion.EventPart: """
        description: An account was opened.
        properties: {plan: {type: string, enum: [free, pro]}}
        closed: true
        """,
    companion.PropertyPart: """
        type: object
        required: true
        description: Where to send it.
        properties: {city: string, country: {type: string, enum: [IN, SG]}}
        """,
    companion.TemplatesFile: 'templates: {hello: {params: {text: "Hi {{ profile.first_name }}"}}}',
    companion.TemplatePart: """
        title: Hello
        kind: email
        params: {subject: "Hi {{ profile.first_name | default: 'there' }}"}
        """,
    companion.SegmentsFile: "segments: {adults: {when: {field: profile.age, op: gte, value: 18}}}",
    companion.SegmentPart: "{title: Of age, when: {field: profile.age, op: gte, value: 18}}",
    companion.LimitsFile: 'limits: {polite: {quiet_hours: {from: "21:00", to: "08:00"}}}',
    companion.ConnectorsFile: "connectors: {sms: {type: webhook, kind: sms}}",
    companion.ConnectorPart: """
        type: webhook
        kind: sms
        description: The text gateway.
        settings: {url: "${SMS_URL:-http://127.0.0.1:8090/hooks/sms}"}
        delivery: {concurrency: 20}
        """,
    companion.DeliveryPart: """
        concurrency: 20
        rate: {max: 50, per: 1s}
        attempts_max: 5
        budget: 1h
        backoff_first: 1s
        backoff_max: 5m
        lease: 1m
        breaker: {failures: 5, pause: 30s}
        on_unknown: drop
        """,
    companion.BreakerPart: "{failures: 5, pause: 30s}",
    capacity.CapacityPart: """
        lines: 20
        line_hold: 5m
        call_min: 30s
        group_by: agent
        groups: {sales: {lines: 5}}
        opening_hours: {zone: Asia/Kolkata, windows: {from: "09:00", to: "18:00"}}
        slot: 15m
        """,
    capacity.LineGroupPart: """
        lines: 5
        opening_hours: {zone: Asia/Kolkata, windows: {days: [sat], from: "10:00", to: "14:00"}}
        """,
    capacity.OpeningHoursPart: """
        zone: Asia/Kolkata
        windows:
          - {days: [mon, tue, wed, thu, fri], from: "09:00", to: "18:00"}
          - {days: [sat], from: "10:00", to: "14:00"}
        closed: ["2026-12-25", "2027-01-26"]
        """,
    capacity.WindowPart: '{days: [mon, tue, wed, thu, fri], from: "09:00", to: "18:00"}',
}

#: Examples of keys that the example of their part leaves out.
KEYS_BY_HAND: Mapping[tuple[type[Part], str], str] = {
    (journey.JourneyFile, "stages"): "{basket: {on: {event: cart_updated}}}",
    (journey.JourneyFile, "rules"): "[{id: hello, on: {enter: basket}, do: [{wait: 1d}]}]",
    (journey.RulePart, "do"): "[{send: {connector: sms, template: hello}}]",
    (trigger.SequenceTrigger, "sequence"): "{steps: [{event: search}, {event: search}], within: 5m}",
    (case.CasesFile, "cases"): "[{case: a hello, events: […], expect: {actions: []}}]",
    (condition.FieldCondition, "default"): "web",
    (companion.ConnectorPart, "capacity"): "{lines: 20, line_hold: 5m}",
    (capacity.CapacityPart, "opening_hours"): "{zone: UTC, windows: {from: '09:00', to: '18:00'}}",
    (capacity.LineGroupPart, "opening_hours"): "{zone: UTC, windows: {from: '10:00', to: '14:00'}}",
    (capacity.OpeningHoursPart, "windows"): "{days: [sat, sun], from: '10:00', to: '14:00'}",
    (companion.PropertyPart, "enum"): "[IN, SG, AE]",
    (play.StepPart, "send"): "{connector: sms, template: hello}",
    (play.StepPart, "wait_for"): "{event: email_opened, within: 1d}",
    (play.StepPart, "do"): "[{wait: 1d}, {send: {connector: sms, template: hello}}]",
}
