package console

import (
	"encoding/json"
	"net/url"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/wxrelay/wxrelay/relay"
)

var (
	sampleTime = time.Date(2026, 12, 1, 10, 0, 0, 0, time.UTC)
	han        = regexp.MustCompile(`\p{Han}`)
)

// full are pages with something in every place that an operator may find filled.
func full() []page {
	at, code, text, n := sampleTime.Add(-time.Minute), 43101, "user refuse", 500
	m := relay.Message{ID: "msg_1", App: "shop", OpenID: "oAnn", User: &text, Channel: "subscribe", TemplateID: &text, State: "held", MsgID: &text, Errcode: &code,
		Errmsg: &text, RID: &text, CreatedAt: at, UpdatedAt: at, Metadata: json.RawMessage(`{"order":9007199254740993}`),
		Timeline: []relay.Step{{At: at, State: "held", Cause: "accepted", Errcode: &code}}}
	line := relay.Subscription{App: "shop", OpenID: "oAnn", TemplateID: "T1", Kind: "one_time", Credits: 2, Unproven: 1, Status: "accepted", UpdatedAt: &at,
		History: []relay.Movement{{At: at, Cause: "popup_accept", Delta: 1, Balance: 2}}}
	d := relay.Delivery{ID: "dlv_1", WebhookID: "evt_1", Type: "message.sent", Partner: "orders", Endpoint: "main", State: "buried", NextAt: &at, Reason: &text, CreatedAt: at,
		Attempts: []relay.DeliveryAttempt{{At: at, TookMS: 9, Error: &text}, {At: at, Status: &n, TookMS: 12, RequestHeaders: map[string]string{"Webhook-Id": "evt_1"},
			ResponseHeaders: map[string]string{"Server": "x"}, ResponseBody: &text}}}
	e := relay.Endpoint{ID: "main", Partner: "orders", URL: "https://orders.example.com/hook", Events: []string{"message.*"}, Kind: "webhook", Timeout: "15s", InFlight: 10, Rate: 5,
		Order: "none", ManagedBy: "api", State: "benched", Reason: &text, Since: &at, Until: &at, Failures: 3, Pending: 1, Held: 2, OldestAt: &at, Secrets: []string{"whsec_x"},
		RotatingUntil: &at, Filter: relay.EndpointFilter{App: []string{"shop"}}}
	known := relay.LookupErrcode(code)
	cursor := "c2"
	tpl := relay.Template{ID: "T1", Title: "订单", Kind: "one_time", Content: "商品:{{thing1.DATA}}\n状态:{{phrase2.DATA}}", Example: "商品:苹果\n状态:已发货", Aliases: []string{"order"}}
	return []page{
		&Overview{Ready: true, Checks: []Check{{Name: "redis", OK: true, Detail: "1 ms"}}, Lanes: []relay.Lane{{Name: "push", Ready: 1, Buried: 2, Oldest: time.Minute}}, More: 1,
			Needs: []Need{{Kind: "disabled", Name: "orders/main", Link: "/", Bad: true, Count: 2}, {Kind: "benched", Name: "b", Count: 1}, {Kind: "probing", Name: "p"}, {Kind: "paused", Name: "shop", Code: &code},
				{Kind: "token", Name: "shop"}, {Kind: "lag", Name: "push", Detail: "90"}, {Kind: "buried", Name: "push", Count: 3}},
			Tail: Tail{Items: []Happening{{Number: 1, At: at, Kind: "push", Who: "shop", What: "x", Result: "accepted"}}}},
		&HistoryPage{}, &Tail{Missed: 3, Items: []Happening{{Number: 1, At: at, Kind: "delivery", Who: "orders", Result: "failing", Bad: true}}},
		&Messages{Apps: []string{"shop"}, App: "shop", Items: []relay.Message{m}, Next: &cursor},
		&Message{MessageDetail: relay.MessageDetail{Message: m, Partner: "orders", Channels: []string{"subscribe", "customer_service"}, Payload: json.RawMessage(`{"a":1}`), NoCredit: "hold",
			OnUnknown: "fail", Priority: "high", SendAt: &at, ExpiresAt: &at, Waits: &relay.Waiting{For: relay.WaitsCredit, Until: &at, Errcode: &code}, Subscription: &line},
			Known: &known, Deliveries: []relay.Delivery{d}, Curl: "curl"},
		&Deliveries{Partner: "orders", Endpoint: "orders/main", Endpoints: []string{"orders/main"}, State: "buried", Items: []relay.Delivery{d}, Next: &cursor, Matched: &n},
		&Delivery{Delivery: d, URL: "https://x", Event: &relay.Event{Data: json.RawMessage(`{"data":{"id":"msg_1"}}`)}, Curl: "curl"},
		&Replay{Replay: relay.Replay{ID: "rpl_1", Matched: 9, Replayed: 3, State: "running", CreatedAt: at}, Partner: "orders"},
		&Endpoints{Items: []relay.Endpoint{e}}, &Endpoint{Endpoint: e, Deliveries: []relay.Delivery{d}, Key: "orders/main"},
		&User{Apps: []string{"shop"}, App: "shop", OpenID: "oAnn", Asked: true, Lines: []relay.Subscription{line}, Messages: []relay.Message{m}},
		&Apps{Total: 1, Items: []AppRow{{Name: "shop", AppID: "wx1", Kind: "miniprogram", Fetched: &at, Expires: &at, LastPush: &at, Paused: true}}, Next: &cursor},
		&App{AppRow: AppRow{Name: "shop", LastPush: &at, Paused: true}, Partners: []string{"orders"}, Known: &known, Pauses: []relay.PausedApp{{App: "shop", Until: at, Errcode: &code, Why: "no"}},
			Token:     relay.TokenLog{Source: "stable", FetchedAt: &at, ExpiresAt: &at, Changes: []relay.TokenChange{{At: at, Cause: "reported", Errcode: code, RID: "r", By: "orders", From: "1.2.3.4"}}},
			Templates: []TemplateCard{{tpl, fieldsOf(tpl)}}},
		&Errcodes{Find: "x", Items: relay.Errcodes()}, &Audit{Items: []AuditEntry{{At: at, User: "ann", Client: "::1", Method: "POST", Path: "/x", Status: 403}}},
		&Trouble{Reason: "because"}, &Trouble{Missing: true}, &Trouble{Stale: true},
	}
}

func draw(t *testing.T, p page, lang string, viewer bool) string {
	t.Helper()
	f := p.frame()
	f.Lang, f.Zone, f.Now, f.Path, f.Token, f.Version, f.Visitor = lang, "beijing", sampleTime, "/", "TOKEN", "1.2.3", Visitor{Viewer: viewer}
	f.Here = &url.URL{Path: f.Path}
	b, err := render(p)
	if err != nil {
		t.Fatalf("%s: %v", p.template(), err)
	}
	return string(b)
}

// Every page draws, empty and full, in both languages; none has a script or style of its own, and a viewer is offered nothing to
// change.
func TestPagesDraw(t *testing.T) {
	for _, p := range append(blanks(), full()...) {
		for _, lang := range []string{"en", "zh"} {
			got := draw(t, p, lang, false)
			for _, never := range []string{"<no value>", "%!", "ZgotmplZ", " style=", "<style", "onclick", "javascript:"} {
				if strings.Contains(got, never) {
					t.Errorf("%s in %s has %s", p.template(), lang, never)
				}
			}
			if strings.Contains(draw(t, p, lang, true), `method="post"`) {
				t.Errorf("%s offers a viewer a change", p.template())
			}
		}
	}
}

// What a page says in English stands in the book of words, and nothing else does.
func TestWordsAreWhole(t *testing.T) {
	said := map[string]bool{}
	pages, err := files.ReadDir("pages")
	if err != nil {
		t.Fatal(err)
	}
	source := ""
	for _, e := range pages {
		b, err := files.ReadFile("pages/" + e.Name())
		if err != nil {
			t.Fatal(err)
		}
		source += string(b)
	}
	for _, name := range []string{"frame.go", "parts.go"} {
		b, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		source += string(b)
	}
	for _, found := range regexp.MustCompile(`\.T(?: |\()"([^"]+)"`).FindAllStringSubmatch(source, -1) {
		said[found[1]] = true
	}
	for english := range said {
		if zh := chinese[english]; zh == "" {
			t.Errorf("no Chinese for %q", english)
		}
	}
	for english, zh := range chinese {
		if !said[english] {
			t.Errorf("nobody says %q", english)
		}
		if !han.MatchString(zh) || han.MatchString(english) {
			t.Errorf("in the wrong language: %q %q", english, zh)
		}
		if strings.ContainsAny(zh, ",;!?()") {
			t.Errorf("half-width punctuation in %q", zh)
		}
	}
	for state, w := range stateWords {
		if han.MatchString(w[0]) || !han.MatchString(w[1]) {
			t.Errorf("%s: %q", state, w)
		}
	}
	for _, state := range slices.Concat(messageStates, relay.DeliveryStates, endpointStates) {
		if _, ok := stateWords[state]; !ok {
			t.Errorf("state %s has no word", state)
		}
	}
}

// The description has each path of the JSON face, each method, and no other.
func TestDescriptionHasTheRoutes(t *testing.T) {
	c := New(Options{})
	want := []string{"get /api/openapi.yaml"}
	for _, p := range c.pages() {
		want = append(want, "get "+p.api())
	}
	for _, a := range c.actions() {
		want = append(want, "post /api"+a.path)
	}
	var got []string
	path := ""
	for _, line := range strings.Split(string(openAPI), "\n") {
		if m := regexp.MustCompile(`^  (/\S*):$`).FindStringSubmatch(line); m != nil {
			path = m[1]
		} else if m := regexp.MustCompile(`^    (get|post|put|delete|patch):$`).FindStringSubmatch(line); m != nil {
			got = append(got, m[1]+" "+path)
		}
	}
	slices.Sort(want)
	slices.Sort(got)
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestHistory(t *testing.T) {
	var h History
	now := sampleTime
	for i := range 300 {
		h.Push("shop", "subscribe_msg_popup_event", "accepted", now.Add(time.Duration(i)*time.Minute))
	}
	end := now.Add(299 * time.Minute)
	h.Push("shop", "x", "not_stored", end)
	h.Message("shop", "subscribe", "sent", end)
	h.Message("shop", "subscribe", "refused", end)
	h.Message("shop", "subscribe", "permanent", end) // no state
	for range 99 {
		h.Delivery("orders", "delivered", 7*time.Millisecond, end)
	}
	h.Delivery("orders", "failing", 20*time.Second, end)
	h.Lag(3*time.Second, end)
	h.Lag(time.Second, end)
	s := h.Series(false, end)
	if len(s.At) != 60 || s.At[59] != end.Unix() {
		t.Fatalf("%d values up to %d", len(s.At), s.At[59])
	}
	want := Sums{Pushes: 61, PushErrors: 1, Sends: 1, SendErrors: 1, Deliveries: 100, DeliveryErrors: 1, P99: 0.01, Lag: 3}
	if diff := cmp.Diff(want, sumUp(s)); diff != "" {
		t.Error(diff)
	}
	if day := h.Series(true, end); len(day.At) != 96 || sumUp(day).Pushes != 301 {
		t.Errorf("the day: %d values, %+v", len(day.At), sumUp(day))
	}
	if later := h.Series(true, end.Add(25*time.Hour)); sumUp(later) != (Sums{}) {
		t.Errorf("a day later there is still %+v", sumUp(later))
	}
	list, missed := h.Tail(0)
	if len(list) != tailKept || missed != 0 || list[len(list)-1].Result != "failing" {
		t.Errorf("%d lines, %d missed", len(list), missed)
	}
	list, missed = h.Tail(list[0].Number - 11)
	if len(list) != tailKept || missed != 10 {
		t.Errorf("%d lines, %d missed", len(list), missed)
	}
	if !h.LastPush("shop").Equal(end.Truncate(time.Minute)) || !h.LastPush("other").IsZero() {
		t.Error(h.LastPush("shop"))
	}
}

// A list over all partners goes on where the page before ended, also where many lines have one time.
func TestPlacesInAMergedList(t *testing.T) {
	type row struct {
		at time.Time
		id int
	}
	var all []row
	for i := range 173 {
		all = append(all, row{sampleTime.Add(-time.Duration(i/70) * time.Second), i})
	}
	var seen []row
	for cursor := ""; ; {
		at, skip, err := readPlace(cursor)
		if err != nil {
			t.Fatal(err)
		}
		from := all
		if !at.IsZero() {
			from = all[slices.IndexFunc(all, func(r row) bool { return !r.at.After(at) }):]
		}
		page, next := cutPage(from, at, skip, func(r row) time.Time { return r.at })
		seen = append(seen, page...)
		if next == nil {
			break
		}
		cursor = *next
	}
	if diff := cmp.Diff(len(all), len(seen)); diff != "" {
		t.Error(diff)
	}
	for i, r := range seen {
		if r.id != i {
			t.Fatalf("line %d is %d", i, r.id)
		}
	}
	for _, bad := range []string{"x", "1", "1-x", "1--1", "1-99999999"} {
		if _, _, err := readPlace(bad); err == nil {
			t.Errorf("%q is a cursor", bad)
		}
	}
}
