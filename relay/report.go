package relay

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/wxrelay/wxrelay/relay/ledger"
	"github.com/wxrelay/wxrelay/relay/queue"
)

// How many templates a client may name: WeChat asks for 5 at once; settings list what was ever kept, and an account may have
// 50 templates.
const (
	maxTemplatesPerReport = 20
	maxTemplatesKept      = 50
)

// choices reads an object of template id -> word, as wx.requestSubscribeMessage and itemSettings have it. Other members,
// errMsg and errCode among them, are passed over; where errMsg says that the call failed, nothing was answered. The ids come
// in their order. counts tells which of them are templates; nil = all.
func choices(members map[string]json.RawMessage, most int, counts func(id string) bool) (ids []string, words map[string]string, err error) {
	words = map[string]string{}
	var errMsg string
	if json.Unmarshal(members["errMsg"], &errMsg) == nil && strings.Contains(errMsg, ":fail") {
		return nil, words, nil
	}
	for k, raw := range members {
		var word string
		if k == "errMsg" || k == "errCode" || json.Unmarshal(raw, &word) != nil || len(k) > 128 || k == "" {
			continue
		}
		switch {
		case counts != nil && !counts(k):
		case strings.HasPrefix(word, "accept"), word == "reject", word == "ban", word == "filter":
			ids, words[k] = append(ids, k), word
		}
	}
	if len(ids) > most {
		return nil, nil, invalid("", strconv.Itoa(len(ids))+" templates, at most "+strconv.Itoa(most))
	}
	slices.Sort(ids)
	return ids, words, nil
}

// Report books what wx.requestSubscribeMessage returned to the mini-program. A client's word and WeChat's event about the
// same tap are one grant; requestID, when given, makes a repeated report harmless.
// https://developers.weixin.qq.com/miniprogram/dev/api/open-api/subscribe-message/wx.requestSubscribeMessage.html
func (r *Relay) Report(ctx context.Context, app, openid string, body json.RawMessage, requestID string) ([]Consent, error) {
	var members map[string]json.RawMessage
	if err := json.Unmarshal(body, &members); err != nil || members == nil {
		return nil, &Malformed{Detail: "the body must be the object that wx.requestSubscribeMessage returned"}
	}
	ids, words, err := choices(members, maxTemplatesPerReport, r.counts(ctx, app, openid))
	if err != nil {
		return nil, err
	}
	return r.bookAnswers(ctx, app, openid, ids, requestID, func(l ledger.Subscription, p ledger.Policy, cause string) []string {
		return ledger.Report(l, p, words[l.TemplateID], cause)
	}, func(id string) string { return words[id] })
}

// Settings books what wx.getSetting({withSubscriptions: true}) said. Only kept choices are listed there, so a template
// that is absent is not rejected; the main switch off closes every line.
// https://developers.weixin.qq.com/miniprogram/dev/api/open-api/setting/SubscriptionsSetting.html
func (r *Relay) Settings(ctx context.Context, app, openid string, body json.RawMessage) ([]Consent, error) {
	in, err := readSettings(body)
	if err != nil {
		return nil, err
	}
	if in.MainSwitch != nil && !*in.MainSwitch {
		sts, err := r.ledger.List(ctx, app, openid)
		if err != nil {
			return nil, err
		}
		var ids []string
		for _, st := range sts {
			ids = append(ids, st.TemplateID)
		}
		return r.bookAnswers(ctx, app, openid, ids, "", func(l ledger.Subscription, p ledger.Policy, cause string) []string {
			return ledger.Setting(l, p, "main_off", cause)
		}, func(string) string { return "" })
	}
	ids, words, err := choices(in.ItemSettings, maxTemplatesKept, r.counts(ctx, app, openid))
	if err != nil {
		return nil, err
	}
	return r.bookAnswers(ctx, app, openid, ids, "", func(l ledger.Subscription, p ledger.Policy, cause string) []string {
		return ledger.Setting(l, p, words[l.TemplateID], cause)
	}, func(string) string { return "" })
}

// settings is subscriptionsSetting of wx.getSetting.
type settings struct {
	MainSwitch   *bool                      `json:"mainSwitch"`
	ItemSettings map[string]json.RawMessage `json:"itemSettings"`
}

// readSettings takes subscriptionsSetting, the answer of wx.getSetting with it inside, and the form of older clients, where
// the template ids stand beside mainSwitch.
func readSettings(body json.RawMessage) (settings, error) {
	malformed := &Malformed{Detail: "the body must be the subscriptionsSetting of wx.getSetting: mainSwitch and itemSettings"}
	var whole struct {
		settings
		Inner json.RawMessage `json:"subscriptionsSetting"`
	}
	if json.Unmarshal(body, &whole) != nil {
		return settings{}, malformed
	}
	in := whole.settings
	if in.MainSwitch == nil && whole.Inner != nil {
		body, in = whole.Inner, settings{}
		if json.Unmarshal(body, &in) != nil {
			return settings{}, malformed
		}
	}
	if in.ItemSettings != nil {
		return in, nil
	}
	if json.Unmarshal(body, &in.ItemSettings) != nil {
		return settings{}, malformed
	}
	if _, words, _ := choices(in.ItemSettings, maxTemplatesKept, nil); in.MainSwitch == nil && len(words) == 0 {
		return settings{}, malformed
	}
	return in, nil
}

// bookAnswers books a client's words in one change and tells partners of the lines that moved. word is "" where a choice is
// not an answer to a popup.
func (r *Relay) bookAnswers(ctx context.Context, app, openid string, ids []string, requestID string,
	args func(ledger.Subscription, ledger.Policy, string) []string, word func(string) string) ([]Consent, error) {
	rules := r.rules.Load()
	if len(ids) == 0 {
		return r.Consents(ctx, app, openid, nil)
	}
	shard := r.q.Shard(app, openid)
	name := requestID
	if name == "" {
		name = rand.Text()
	}
	for _, id := range ids { // what is said is in it: another report is another one, whatever the client calls it
		name += "\x00" + id + "\x00" + word(id)
	}
	sum := sha256.Sum256([]byte(name))
	name = base64.RawURLEncoding.EncodeToString(sum[:18])
	job := reportJob{App: app, OpenID: openid}
	ch := queue.Change{Shard: shard, Once: "r/" + app + "/" + openid + "/" + name, OnceFor: rememberPush}
	for _, id := range ids {
		l := ledger.Subscription{App: app, OpenID: openid, TemplateID: id, Kind: r.kind(app, id)}
		ch.Operations = append(ch.Operations, operation(args(l, rules.Apps[app].Consent, "client:"+name)))
		job.IDs, job.Words = append(job.IDs, id), append(job.Words, word(id))
	}
	ch.Jobs = []queue.Job{{ID: r.q.NewID("rep_", shard), Lane: laneRelease + ":" + app, Body: encode(job), Replies: true}}
	if res := r.q.Commit(ctx, ch); res.Err != nil && !errors.Is(res.Err, queue.ErrTaken) {
		return nil, res.Err
	}
	return r.Consents(ctx, app, openid, ids)
}

// reportJob asks a worker for the second half of a client's report: tell partners, release held messages. With Park it is
// only the latter, where a credit came back.
type reportJob struct {
	App    string   `json:"a"`
	OpenID string   `json:"o"`
	IDs    []string `json:"t"`
	Words  []string `json:"w"`
	Park   string   `json:"p,omitempty"`

	Report *keptReport `json:"r,omitempty"` // instead of all that: a report that waits for others (match.go)
}

// answerEvent names what a client's word means to partners: an answer of the popup as WeChat's event would, what the settings
// show by what was booked for it.
func answerEvent(word, cause string) string {
	switch {
	case word != "":
		return subscriptionEvent(word, false)
	case cause == ledger.CauseSettingsAccept:
		return EventSubscriptionAccepted
	case cause == ledger.CauseSettingsReject:
		return EventSubscriptionRejected
	}
	return EventSubscriptionCancelled
}

func (r *Relay) releaseHeld(ctx context.Context, c *queue.Claimed) queue.Verdict {
	var o reportJob
	if err := json.Unmarshal(c.Body, &o); err != nil {
		return queue.Bury("malformed", c.Note)
	}
	shard, err := queue.ShardOf(c.ID)
	if err != nil {
		return queue.Bury("malformed", c.Note)
	}
	if o.Report != nil { // its time is over
		return queue.Done(nil)
	}
	if o.Park != "" {
		if _, err := r.release(ctx, shard, o.Park, c.Now); err != nil {
			return queue.Snooze(time.Second, nil)
		}
		return queue.Done(nil)
	}
	var jobs []queue.Job
	users := r.usersOf(ctx, o.App, o.OpenID)
	for i, reply := range strings.Split(string(c.Note), "\n") {
		if i >= len(o.IDs) {
			break
		}
		l := ledger.Subscription{App: o.App, OpenID: o.OpenID, TemplateID: o.IDs[i]}
		rep, err := ledger.ParseReply(reply)
		if err != nil || !rep.Changed && rep.Delta == 0 {
			continue
		}
		told, err := r.notifySubscription(ctx, shard, l, answerEvent(o.Words[i], rep.Cause), rep, c.Created, c.Created, users)
		if err != nil {
			return queue.Snooze(time.Second, c.Note)
		}
		jobs = append(jobs, told...)
		if rep.Delta > 0 || rep.LongTerm {
			if _, err := r.release(ctx, shard, subscriptionPark(l), c.Now); err != nil {
				return queue.Snooze(time.Second, c.Note)
			}
		}
	}
	return queue.Done(nil).With(queue.Change{Jobs: jobs})
}
