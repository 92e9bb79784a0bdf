package console

import (
	"context"
	"encoding/json"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/wxrelay/wxrelay/relay"
)

var messageStates = []string{relay.StateScheduled, relay.StateHeld, relay.StateQueued, relay.StateSending, relay.StateSent, relay.StateDelivered,
	relay.StateFailed, relay.StateRefused, relay.StateExpired, relay.StateCancelled, relay.StateUnknown}

// shown is how many lines a page lists.
const shown = 50

// Messages is the latest messages that fit the fields of the search.
type Messages struct {
	Frame      `json:"-"`
	Apps       []string        `json:"-"`
	Partners   []string        `json:"-"`
	App        string          `json:"app"`
	Partner    string          `json:"partner"`
	State      string          `json:"state"`
	OpenID     string          `json:"openid"`
	User       string          `json:"user"`
	TemplateID string          `json:"template_id"`
	MsgID      string          `json:"msgid"`
	Errcode    string          `json:"errcode"`
	Since      string          `json:"since"`
	Until      string          `json:"until"`
	Items      []relay.Message `json:"items"`
	Next       *string         `json:"next_cursor"`
}

func (*Messages) template() string { return "messages" }

// States are the states to choose from.
func (p *Messages) States() []Option { return p.options(messageStates, p.State) }

// Table is the messages for the part that draws them.
func (p *Messages) Table() Table[relay.Message] { return Table[relay.Message]{&p.Frame, p.Items} }

// Filtered tells whether anything but the newest is asked for.
func (p *Messages) Filtered() bool {
	return p.App+p.Partner+p.State+p.OpenID+p.User+p.TemplateID+p.MsgID+p.Errcode+p.Since+p.Until != ""
}

func (c *Console) messages(r *http.Request) (page, error) {
	q := func(name string) string { return strings.TrimSpace(r.URL.Query().Get(name)) }
	if id := q("id"); id != "" {
		return c.oneMessage(r.Context(), id)
	}
	rules := c.o.Relay.Rules()
	p := &Messages{Apps: names(rules.Apps), Partners: names(rules.Partners), App: q("app"), Partner: q("partner"), State: q("state"), OpenID: q("openid"),
		User: q("user"), TemplateID: q("template_id"), MsgID: q("msgid"), Errcode: q("errcode"), Since: q("since"), Until: q("until")}
	ask := relay.MessageQuery{App: p.App, State: p.State, OpenID: p.OpenID, User: p.User, TemplateID: p.TemplateID, MsgID: p.MsgID}
	if _, ok := rules.Apps[p.App]; !ok && p.App != "" {
		return nil, relay.ErrNotFound
	}
	if _, ok := rules.Partners[p.Partner]; !ok && p.Partner != "" {
		return nil, relay.ErrNotFound
	}
	if p.State != "" && !slices.Contains(messageStates, p.State) {
		return nil, relay.ErrNotFound
	}
	var code *int
	if p.Errcode != "" {
		n, err := strconv.Atoi(p.Errcode)
		if err != nil {
			return nil, wrong("errcode", "is not a number")
		}
		code = &n
	}
	var err error
	if ask.Since, ask.Until, err = between(p.Since, p.Until); err != nil {
		return nil, err
	}
	fits := func(m *relay.Message) bool { return code == nil || m.Errcode != nil && *m.Errcode == *code }
	p.Items, p.Next, err = c.latest(r.Context(), p.Partner, ask, q("cursor"), fits)
	return p, err
}

func wrong(field, reason string) error {
	return &relay.Invalid{Code: "invalid_request", Fields: []relay.Field{{Field: field, Reason: reason}}}
}

// between reads two times: RFC 3339, or as a browser's field writes them, which is Beijing's time.
func between(since, until string) (from, to time.Time, err error) {
	read := func(field, s string) (time.Time, error) {
		if s == "" {
			return time.Time{}, nil
		}
		if t, err := time.Parse(time.RFC3339, s); err == nil {
			return t, nil
		}
		for _, form := range []string{"2006-01-02T15:04", "2006-01-02T15:04:05", "2006-01-02"} {
			if t, err := time.ParseInLocation(form, s, beijing); err == nil {
				return t, nil
			}
		}
		return time.Time{}, wrong(field, "is not a time, such as 2026-12-01T10:00")
	}
	if from, err = read("since", since); err == nil {
		to, err = read("until", until)
	}
	return from, to, err
}

// Bounds of one search over all partners.
const (
	searchTime  = 3 * time.Second
	searchPages = 40 // of one partner
)

// latest merges every partner's messages, the newest first. A partner that may not use the app asked for has none of it.
// The cursor is the place of the last line: its time, and how many lines of that time stood before.
func (c *Console) latest(ctx context.Context, partner string, q relay.MessageQuery, cursor string, fits func(*relay.Message) bool) ([]relay.Message, *string, error) {
	at, skip, err := readPlace(cursor)
	if err != nil {
		return nil, nil, err
	}
	if !at.IsZero() && (q.Until.IsZero() || at.Before(q.Until)) {
		q.Until = at
	}
	all, rules, over := []relay.Message{}, c.o.Relay.Rules(), time.Now().Add(searchTime)
	want := shown + skip + 1
	q.Limit = min(want, 100)
	for name, p := range rules.Partners {
		if partner != "" && partner != name || q.App != "" && !p.MayUse(q.App) {
			continue
		}
		found := 0
		for q.Cursor = ""; ; {
			list, err := c.o.Relay.Messages(ctx, name, q)
			if err != nil {
				return nil, nil, err
			}
			for i := range list.Items {
				if m := &list.Items[i]; fits(m) {
					all = append(all, *m)
					found++
				}
			}
			if list.NextCursor == nil || found >= want || time.Now().After(over) {
				break
			}
			q.Cursor = *list.NextCursor
		}
	}
	slices.SortFunc(all, func(a, b relay.Message) int {
		if d := b.CreatedAt.Compare(a.CreatedAt); d != 0 {
			return d
		}
		return strings.Compare(b.ID, a.ID)
	})
	items, next := cutPage(all, at, skip, func(m relay.Message) time.Time { return m.CreatedAt })
	return items, next, nil
}

func readPlace(cursor string) (at time.Time, skip int, err error) {
	if cursor == "" {
		return at, 0, nil
	}
	ms, n, _ := strings.Cut(cursor, "-")
	when, err := strconv.ParseInt(ms, 10, 64)
	if err == nil {
		skip, err = strconv.Atoi(n)
	}
	if err != nil || skip < 0 || skip > 10_000 {
		return at, 0, wrong("cursor", "is not a next_cursor of this list: leave it out to begin")
	}
	return time.UnixMilli(when), skip, nil
}

// cutPage takes a page out of a sorted list that begins at the place's time, and says where the next one begins.
func cutPage[T any](all []T, at time.Time, skip int, of func(T) time.Time) ([]T, *string) {
	begin := 0
	for begin < len(all) && begin < skip && of(all[begin]).UnixMilli() == at.UnixMilli() {
		begin++
	}
	end := min(begin+shown, len(all))
	page := all[begin:end]
	if end == len(all) || len(page) == 0 {
		return page, nil
	}
	last, same := of(page[len(page)-1]).UnixMilli(), 0
	for i := end - 1; i >= 0 && of(all[i]).UnixMilli() == last; i-- {
		same++
	}
	next := strconv.FormatInt(last, 10) + "-" + strconv.Itoa(same)
	return page, &next
}

// Message is one message: what was asked, how it goes, and why it waits.
type Message struct {
	Frame `json:"-"`
	relay.MessageDetail
	Known      *relay.Errcode   `json:"known"` // what its errcode means
	Deliveries []relay.Delivery `json:"deliveries"`
	Curl       string           `json:"curl"` // the same request again
}

func (*Message) template() string { return "message" }

// MetadataText is the partner's metadata, "" when there is none.
func (m *Message) MetadataText() string {
	if s := string(m.Metadata); s != "{}" {
		return pretty(m.Metadata)
	}
	return ""
}

// PayloadText is what WeChat is given.
func (m *Message) PayloadText() string { return pretty(m.Payload) }

// MayCancel tells whether the message still waits.
func (m *Message) MayCancel() bool {
	return m.State == relay.StateScheduled || m.State == relay.StateHeld || m.State == relay.StateQueued
}

// Notified is its deliveries for the part that draws them.
func (m *Message) Notified() Table[relay.Delivery] {
	return Table[relay.Delivery]{&m.Frame, m.Deliveries}
}

func (c *Console) message(r *http.Request) (page, error) {
	return c.oneMessage(r.Context(), r.PathValue("id"))
}

func (c *Console) oneMessage(ctx context.Context, id string) (page, error) {
	d, err := c.o.Relay.MessageDetail(ctx, id)
	if err != nil {
		return nil, err
	}
	p := &Message{MessageDetail: d, Deliveries: []relay.Delivery{}}
	if d.Errcode != nil && *d.Errcode != 0 {
		known := relay.LookupErrcode(*d.Errcode)
		p.Known = &known
	}
	list, err := c.o.Relay.Deliveries(ctx, d.Partner, relay.DeliveryQuery{Message: id, Limit: 50})
	if err != nil {
		return nil, err
	}
	p.Deliveries = append(p.Deliveries, list.Items...)
	slices.SortStableFunc(p.Deliveries, func(a, b relay.Delivery) int { return a.CreatedAt.Compare(b.CreatedAt) })
	p.Curl = c.sendCurl(&d)
	return p, nil
}

// sendCurl is a command that sends the message again, signed with the partner's secret, which it does not hold.
func (c *Console) sendCurl(d *relay.MessageDetail) string {
	body := map[string]any{"app": d.App, "to": map[string]string{"openid": d.OpenID}, "channel": d.Channel, "no_credit": d.NoCredit}
	if d.TemplateID != nil {
		body["template_id"] = *d.TemplateID
	}
	var payload map[string]json.RawMessage
	if json.Unmarshal(d.Payload, &payload) == nil {
		for _, name := range []string{"data", "page", "msgtype", "text", "image", "link", "miniprogrampage", "miniprogram_state", "lang"} {
			if v, ok := payload[name]; ok && !(name == "data" && d.Channel != relay.ChannelSubscribe) {
				body[name] = v
			}
		}
	}
	raw, err := json.Marshal(body)
	if err != nil {
		return ""
	}
	base := c.o.Public
	if base == "" {
		base = "https://your.host"
	}
	return `WXRELAY_SECRET=whsec_…
body=` + quoted(string(raw)) + `
id="req_$(date +%s)_$$"; ts=$(date +%s)
key=$(printf '%s' "${WXRELAY_SECRET#whsec_}" | openssl base64 -d -A | od -An -v -tx1 | tr -d ' \n')
sig=$(printf '%s' "$id.$ts.$body" | openssl dgst -sha256 -mac HMAC -macopt "hexkey:$key" -binary | openssl base64 -A)
curl -sS --fail-with-body ` + base + `/v1/partners/` + url.PathEscape(d.Partner) + `/messages -H 'content-type: application/json' \
  -H "webhook-id: $id" -H "webhook-timestamp: $ts" -H "webhook-signature: v1,$sig" --data-binary "$body"
`
}

// quoted is a text as one word of a shell.
func quoted(s string) string { return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'" }

func (c *Console) cancelMessage(r *http.Request, _ input) (any, error) {
	return c.o.Relay.Cancel(r.Context(), "", r.PathValue("id"))
}

func names[T any](m map[string]T) []string {
	out := make([]string, 0, len(m))
	for name := range m {
		out = append(out, name)
	}
	slices.Sort(out)
	return out
}
