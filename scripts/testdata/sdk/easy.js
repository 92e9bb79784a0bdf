// What a team has that uses node-easywechat: only the address is another one.
const fs = require('fs');
const FormData = require('form-data');
const { MiniApp } = require('node-easywechat');
const [base, appid, secret, code, template, file] = process.argv.slice(2);
(async () => {
  const app = new MiniApp({ app_id: appid, secret, use_stable_access_token: true, http: { baseURL: base + '/' } });
  const token = await app.getAccessToken().getToken();
  const who = await app.getUtils().codeToSession(code);
  const client = app.getClient();
  const send = async (value) => (await client.request('POST', '/cgi-bin/message/subscribe/send', {
    json: { touser: who.openid, template_id: template, page: 'pages/order', data: { thing1: { value }, amount2: { value: '¥18' } } },
    responseType: 'text',
    transformResponse: [(text) => text],
  }));
  const text = (r) => { const c = r.getContent ? r.getContent() : r.data; return typeof c === 'string' ? c : JSON.stringify(c); };
  const sent = text(await send('一杯咖啡'));
  const form = new FormData();
  form.append('media', fs.readFileSync(file), 'a.png');
  const media = await client.request('POST', '/cgi-bin/media/upload', { params: { type: 'image' }, data: form });
  let second = '';
  try { second = text(await send('x')); } catch (e) { second = String(e.message) + (e.response ? text(e.response) : ''); }
  console.log(JSON.stringify({ token, openid: who.openid, session_key: who.session_key, msgid: (sent.match(/"msgid":(\d+)/) || [])[1], media_id: media.toObject().media_id, second }));
})().catch((e) => { console.error(e); process.exit(1); });
