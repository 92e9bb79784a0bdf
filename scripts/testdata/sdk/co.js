// What a team has that uses co-wechat-api: only the address is another one.
const API = require('co-wechat-api');
const [base, appid, secret, code, template, file] = process.argv.slice(2);
(async () => {
  const api = new API(appid, secret);
  api.prefix = base + '/cgi-bin/';
  api.snsPrefix = base + '/sns/';
  const token = await api.ensureAccessToken();
  const who = await api.code2Session(code);
  const sent = await api.sendSubscribeMessage(who.openid, template, 'pages/order', { thing1: { value: '一杯咖啡' }, amount2: { value: '¥18' } });
  const media = await api.uploadImageMedia(file);
  let second = '';
  await api.sendSubscribeMessage(who.openid, template, '', { thing1: { value: 'x' }, amount2: { value: '¥18' } }).catch((e) => { second = String(e.code || e.message); });
  console.log(JSON.stringify({ token: token.accessToken, openid: who.openid, session_key: who.session_key, msgid: String(sent.msgid), media_id: media.media_id, second }));
})().catch((e) => { console.error(e); process.exit(1); });
