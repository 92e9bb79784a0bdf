// wxrelay.js: a mini-program's side of wxrelay. Plain JavaScript for wx.* and uni-app, without a build step: copy it into
// the project, or require it. Types are in wxrelay.d.ts.
//
//   const relay = createRelay({ url: 'https://your.host', app: 'shop' })
//   onLoad:  relay.login(); relay.prepare([T1, T2])
//   on tap:  relay.subscribe([T1, T2])        // asks for what is worth asking, reports what the user chose
//
// Every promise is rejected with a RelayError: status, code (see /problems), retryAfter in seconds.

const PENDING_MAX = 20 // reports that did not arrive and are kept
const PER_CALL = 5 // templates of one dialog; older versions of WeChat take 3

class RelayError extends Error {
  constructor(status, code, detail, retryAfter) {
    super(detail || code)
    this.name = 'RelayError'
    this.status = status // 0 = no answer
    this.code = code
    this.retryAfter = retryAfter || 0
  }
}

function createRelay(options) {
  const api = options.platform || (typeof wx !== 'undefined' ? wx : uni)
  const base = options.url.replace(/\/+$/, '') + '/mp/' + encodeURIComponent(options.app)
  const perCall = options.perCall || PER_CALL
  const sessionKey = 'wxrelay:' + options.app + ':session'
  const pendingKey = 'wxrelay:' + options.app + ':pending'
  const known = {} // template -> balance, as prepare and the last report told
  let loggingIn = null
  let flushing = null

  const load = (key, otherwise) => { try { return api.getStorageSync(key) || otherwise } catch (e) { return otherwise } }
  const save = (key, value) => { try { api.setStorageSync(key, value) } catch (e) { /* storage is full: this session works all the same */ } }

  let session = load(sessionKey, null)

  const promised = (method, args) => new Promise((success, fail) => api[method](Object.assign({}, args, { success, fail })))

  function send(method, path, data, header) {
    return promised('request', { url: base + path, method, data, timeout: options.timeout || 10000,
      header: Object.assign({ 'content-type': 'application/json' }, header) })
      .then((res) => {
        if (res.statusCode >= 200 && res.statusCode < 300) return res.data
        const problem = res.data || {}
        const after = res.header && (res.header['Retry-After'] || res.header['retry-after'])
        throw new RelayError(res.statusCode, problem.code || 'internal', problem.detail, Number(after))
      }, (e) => { throw new RelayError(0, 'unreachable', e && e.errMsg) })
  }

  // Logs in; calls at the same time are one login. The answer: { session, expires_in, openid, users, is_new }.
  function login() {
    if (!loggingIn) {
      loggingIn = promised('login', {})
        .then((res) => send('POST', '/login', { code: res.code }))
        .then((answer) => {
          session = answer
          save(sessionKey, answer)
          loggingIn = null
          flush()
          return answer
        })
        .catch((e) => { loggingIn = null; throw e })
    }
    return loggingIn
  }

  // A call with the session. One that ended is renewed once.
  function call(method, path, data, header) {
    const withSession = () => send(method, path, data, Object.assign({ Authorization: 'Bearer ' + session.session }, header))
    return (session ? Promise.resolve() : login()).then(withSession).catch((e) => {
      if (e.code !== 'session_invalid') throw e
      session = null
      return login().then(withSession)
    })
  }

  const keep = (answer) => {
    for (const b of answer.items) known[b.template_id] = b
    return answer.items
  }

  // Balances: [{ template_id, credits, long_term, status, ask }].
  function balances(ids) {
    return call('GET', '/subscriptions' + (ids && ids.length ? '?template_id=' + ids.map(encodeURIComponent).join(',') : '')).then(keep)
  }

  // What a tap would ask for: WeChat takes one-time and long-term templates in separate dialogs.
  function worthAsking(ids) {
    const asked = ids.filter((id) => !known[id] || known[id].ask)
    const longTerm = asked.length > 0 && !!(known[asked[0]] && known[asked[0]].long_term)
    return asked.filter((id) => !!(known[id] && known[id].long_term) === longTerm).slice(0, perCall)
  }

  // Asks and reports. Must be called in the handler of a tap, before anything asynchronous. The answer: what WeChat
  // returned, or null when nothing was worth asking. A report that does not arrive is kept and repeated.
  function subscribe(ids) {
    const tmplIds = worthAsking(ids)
    if (tmplIds.length === 0) return Promise.resolve(null)
    return new Promise((resolve) => api.requestSubscribeMessage({ tmplIds, complete: resolve })).then((result) => {
      const pending = load(pendingKey, [])
      const random = () => Math.random().toString(36).slice(2, 12)
      pending.push({ id: 'tap-' + Date.now().toString(36) + '-' + random() + random(), result })
      save(pendingKey, pending.slice(-PENDING_MAX))
      return flush().then(() => result)
    })
  }

  // Reports what is kept, oldest first. It never fails: what does not arrive is for the next time.
  function flush() {
    if (!flushing) {
      const next = () => {
        const first = load(pendingKey, [])[0]
        if (!first) return Promise.resolve()
        const drop = () => { save(pendingKey, load(pendingKey, []).filter((p) => p.id !== first.id)); return next() }
        return call('POST', '/subscriptions', first.result, { 'X-Request-Id': first.id }).then((answer) => { keep(answer); return drop() },
          (e) => (e.status >= 400 && e.status < 500 && e.status !== 401 && e.status !== 429 ? drop() : undefined))
      }
      flushing = next().then(() => { flushing = null }, () => { flushing = null })
    }
    return flushing
  }

  // Reports the switches of the settings page: WeChat does not tell when a user switches messages back on.
  function settings() {
    return promised('getSetting', { withSubscriptions: true }).then((res) => call('POST', '/settings', res.subscriptionsSetting || {})).then(keep)
  }

  const bind = (ticket) => call('POST', '/bind', { ticket })
  const phone = (code) => call('POST', '/phone', { code })

  function logout(all) {
    const done = () => { session = null; save(sessionKey, null) }
    return session ? call('DELETE', '/session', { all: !!all }).then(done) : Promise.resolve()
  }

  return { login, balances, prepare: balances, worthAsking, subscribe, flush, settings, bind, phone, logout, session: () => session }
}

module.exports = { createRelay, RelayError }
