// The mini-program's file, on a stub of wx whose user is a person of the simulated WeChat.
// Environment: GATEWAY and CONTROL, the addresses; FILE, the file.
import assert from 'node:assert/strict'
import { createRequire } from 'node:module'

const { createRelay, RelayError } = createRequire(import.meta.url)(process.env.FILE)
const control = async (action, body) => {
  const res = await fetch(`${process.env.CONTROL}/api/${action}`, { method: 'POST', body: JSON.stringify(body) })
  assert.equal(res.status, 200, action)
  return res.json()
}

function stub(user, choice) {
  const storage = new Map()
  const wx = {
    online: true, logins: 0, dialogs: [], requests: [],
    getStorageSync: (k) => (storage.has(k) ? JSON.parse(storage.get(k)) : ''),
    setStorageSync: (k, v) => storage.set(k, JSON.stringify(v)),
    login: ({ success, fail }) => { wx.logins++; control('login', { user }).then(success, fail) },
    request: ({ url, method, data, header, success, fail }) => {
      wx.requests.push({ method, path: new URL(url).pathname, header })
      if (!wx.online) return fail({ errMsg: 'request:fail' })
      fetch(url, { method, headers: header, body: method === 'GET' ? undefined : JSON.stringify(data) })
        .then(async (res) => success({ statusCode: res.status, data: await res.json(), header: Object.fromEntries(res.headers) }), fail)
    },
    requestSubscribeMessage: ({ tmplIds, complete }) => {
      wx.dialogs.push(tmplIds)
      control('user', { user }) // who opens the mini-program is a user
        .then(() => control('tap', { user, choices: Object.fromEntries(tmplIds.map((t) => [t, choice])) }))
        .then(complete)
    },
    getSetting: ({ success }) => control('user', { user }).then(() => control('settings', { user })).then((subscriptionsSetting) => success({ subscriptionsSetting })),
  }
  return wx
}

const templates = process.env.TEMPLATES.split(',')

// Logins at the same time are one; a tap is asked for, reported and counted once.
{
  const wx = stub('js-ann', 'accept')
  const relay = createRelay({ url: process.env.GATEWAY, app: 'shop', platform: wx })
  const [a, b] = await Promise.all([relay.login(), relay.login()])
  assert.equal(a.session, b.session)
  assert.equal(wx.logins, 1)
  const before = await relay.prepare(templates)
  assert.deepEqual(before.map((b) => [b.credits, b.ask]), templates.map(() => [0, true]))
  const result = await relay.subscribe(templates)
  assert.equal(result.errMsg, 'requestSubscribeMessage:ok')
  assert.deepEqual(wx.dialogs, [templates])
  for (const b of await relay.balances(templates)) assert.equal(b.credits, 1)
}

// What is rejected is not asked for at once again; an answer is an answer.
{
  const wx = stub('js-bob', 'reject')
  const relay = createRelay({ url: process.env.GATEWAY + '/', app: 'shop', platform: wx })
  await relay.subscribe(templates.slice(0, 1))
  for (const b of await relay.balances(templates.slice(0, 1))) assert.deepEqual([b.credits, b.status], [0, 'rejected'])
}

// A report that does not arrive is kept over a restart and arrives once.
{
  const wx = stub('js-cid', 'accept')
  let relay = createRelay({ url: process.env.GATEWAY, app: 'shop', platform: wx })
  await relay.login()
  wx.online = false
  await relay.subscribe(templates.slice(0, 1))
  const reported = wx.requests.at(-1)
  wx.online = true
  relay = createRelay({ url: process.env.GATEWAY, app: 'shop', platform: wx })
  await relay.flush()
  assert.equal(wx.requests.at(-1).header['X-Request-Id'], reported.header['X-Request-Id'])
  await relay.flush()
  for (const b of await relay.balances(templates.slice(0, 1))) assert.equal(b.credits, 1)
}

// A session that ended is renewed, once.
{
  const wx = stub('js-dan', 'accept')
  const relay = createRelay({ url: process.env.GATEWAY, app: 'shop', platform: wx })
  await relay.login()
  relay.session().session = 'over'
  await relay.balances(templates)
  assert.equal(wx.logins, 2)
}

// An error says what it is.
{
  const relay = createRelay({ url: process.env.GATEWAY, app: 'shop', platform: stub('js-eve', 'accept') })
  await assert.rejects(relay.bind('no such ticket'), (e) => e instanceof RelayError && e.status === 410 && e.code === 'ticket_expired')
}

// Templates with and without an end are asked for apart, and no more than WeChat takes.
{
  const relay = createRelay({ url: 'http://127.0.0.1:1', app: 'shop', platform: stub('x', 'accept') })
  assert.equal(relay.worthAsking(['a', 'b', 'c', 'd', 'e', 'f']).length, 5)
}
console.log('ok')
