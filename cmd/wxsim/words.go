package main

import (
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"sort"
	"strings"
)

// introduce says what runs where.
func (b *box) introduce(v *voice) {
	v.say("wxsim: the world in a box. Seed %d (-seed %d has the same day again), WeChat is %s.\n", b.options.seed, b.options.seed, b.temper())
	for _, l := range b.addresses() {
		v.say("  %-26s %s", l[0], l[1])
	}
}

func (b *box) addresses() [][2]string {
	if b.app == nil {
		return [][2]string{
			{"your gateway's callback", b.options.callback},
			{"WeChat", b.wechat + "  (your gateway's wechat.base_url)"},
			{"WeChat, the control", b.control + "  (a page of buttons: accept, reject, be slow, token dies)"},
			{"appid, secret", b.mini.AppID + "  " + b.mini.Secret},
			{"original id", b.mini.OriginalID},
			{"push token, key, mode", b.mini.Token + "  " + b.mini.EncodingAESKey + "  " + string(b.mini.Mode)},
		}
	}
	return [][2]string{
		{"gateway, public door", b.public},
		{"gateway, operators", b.admin + "  (console, /metrics, /readyz" + b.password() + ")"},
		{"WeChat", b.wechat + "  (what api.weixin.qq.com is to the gateway)"},
		{"WeChat, the control", b.control + "  (a page of buttons: accept, reject, be slow, token dies)"},
		{"partner", b.hook + "  (/hook is told, /events shows what it was told)"},
		{"config", b.configFile()},
		{"the gateway's log", b.log.Name()},
	}
}

// password of the operators' door; there is none on loopback.
func (b *box) password() string {
	if !guarded(b.app.AdminAddr()) {
		return ""
	}
	return "; any user, password " + adminPassword
}

func (b *box) temper() string {
	moods := b.sim.Moods()
	if len(moods) == 0 {
		return "calm"
	}
	var all []string
	for m, p := range moods {
		all = append(all, fmt.Sprintf("%s %g %%", m, p*100))
	}
	sort.Strings(all)
	return "unhelpful (-calm: not): " + strings.Join(all, ", ")
}

// invite says what to do now, in lines that can be pasted.
func (b *box) invite(v *voice) {
	if b.app == nil {
		v.say("\nEverything stays up until Ctrl-C.")
		for _, l := range b.addresses() {
			v.say("  %-26s %s", l[0], l[1])
		}
		v.say("\n# Ann allows one message\ncurl -s -X POST %s/api/tap -d '{\"user\":\"%s\",\"template\":\"T1\",\"choice\":\"accept\"}'", b.control, person)
		return
	}
	openid := b.sim.User(appName, person)
	tmpl := b.mini.Templates[0].ID
	body, err := json.Marshal(map[string]any{"app": appName, "to": map[string]string{"openid": openid}, "template_id": tmpl,
		"data": map[string]string{"thing1": "hello", "amount2": "¥1", "time3": "15:04"}})
	if err != nil {
		panic(err) // strings only
	}
	key, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(b.secret, "whsec_"))
	if err != nil {
		panic(err) // made by open
	}
	v.say("\nNow you. Everything stays up until Ctrl-C.")
	for _, l := range b.addresses() {
		v.say("  %-26s %s", l[0], l[1])
	}
	v.say(`
# Ann allows one message (or press the button at %[1]s)
curl -s -X POST %[1]s/api/tap -d '{"user":"%[2]s","template":"T1","choice":"accept"}'

# the partner sends it, signed by hand
body='%[3]s'
id=req_$(date +%%s)_$$; ts=$(date +%%s)
sig=$(printf '%%s' "$id.$ts.$body" | openssl dgst -sha256 -mac HMAC -macopt hexkey:%[4]s -binary | openssl base64 -A)
curl -s %[5]s/v1/partners/%[6]s/messages -H "webhook-id: $id" -H "webhook-timestamp: $ts" -H "webhook-signature: v1,$sig" -H 'content-type: application/json' -d "$body"; echo

# another tap, another message, by our own tool
curl -s -X POST %[1]s/api/tap -d '{"user":"%[2]s","template":"T1","choice":"accept"}'
go run ./cmd/wxrelay send -c %[7]s --partner %[6]s --app %[8]s --to %[9]s --template %[10]s --data thing1=hello --data amount2=¥1 --data time3=15:04 --wait

# what Ann received, and what the partner was told
curl -s '%[1]s/api/inbox?user=%[2]s'
curl -s %[11]s/events

# the next send: WeChat takes it and never answers
curl -s -X POST %[1]s/api/force -d '{"mood":"timeout","path":"subscribe/send"}'

# the token dies; the partner is down three times
curl -s -X POST %[1]s/api/kill_token -d '{"app":"%[8]s"}'
curl -s -X POST %[11]s/misbehave -d '{"status":500,"times":3}'

# how the gateway feels
curl -s %[12]s/readyz; echo
curl -s %[12]s/metrics | grep ^wxrelay_`,
		b.control, person, body, hex.EncodeToString(key), b.public, partnerName, b.configFile(), appName, openid, tmpl, b.hook, b.admin)
}
