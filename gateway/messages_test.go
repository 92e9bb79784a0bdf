package gateway

import (
	"encoding/json"
	"fmt"
	"net/url"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/redis/go-redis/v9"

	"github.com/wxrelay/wxrelay/relay"
	"github.com/wxrelay/wxrelay/relay/binding"
	"github.com/wxrelay/wxrelay/relay/webhook"
)

func TestMessages(t *testing.T) {
	eachRedis(t, func(t *testing.T, rdb redis.UniversalClient) {
		w := newWorld(t, rdb)
		openid, session := w.login("ann")
		w.accept(session)
		got := w.ask("POST", "/messages", order(openid, `,"metadata":{"order":"<A&1>"}`)).got(202, "")
		if !strings.Contains(got.Body.String(), `"<A&1>"`) || got.Header().Get("Content-Type") != "application/json" {
			t.Errorf("%s", got.Body)
		}
		var m map[string]json.RawMessage
		got.into(&m)
		var names []string
		for name := range m {
			names = append(names, name)
		}
		slices.Sort(names)
		want := []string{"app", "attempts", "channel", "created_at", "errcode", "errmsg", "id", "metadata", "msgid", "openid", "rid", "state", "template_id", "timeline", "updated_at", "user"}
		if diff := cmp.Diff(want, names); diff != "" {
			t.Error(diff)
		}
		if string(m["state"]) != `"queued"` || string(m["msgid"]) != "null" || string(m["user"]) != "null" {
			t.Errorf("%s", got.Body)
		}
		id := strings.Trim(string(m["id"]), `"`)
		if diff := cmp.Diff(got.Body.String(), w.ask("GET", "/messages/"+id, "").got(200, "").Body.String()); diff != "" {
			t.Errorf("read again it differs: %s", diff)
		}
		w.as(asking{partner: "turned"}, "GET", "/messages/"+id, "").got(404, NotFound) // another's does not exist
		w.as(asking{partner: "turned"}, "DELETE", "/messages/"+id, "").got(404, NotFound)
		w.ask("GET", "/messages/msg_00nonsense", "").got(404, NotFound)
		w.ask("GET", "/messages/nonsense", "").got(404, NotFound)

		w.ask("POST", "/messages", order(openid, "")).got(409, NoCredit)
		var cancelled relay.Message
		w.ask("DELETE", "/messages/"+id, "").got(200, "").into(&cancelled)
		if cancelled.State != "cancelled" {
			t.Errorf("cancelled is %s", cancelled.State)
		}
		w.ask("DELETE", "/messages/"+id, "").got(409, TooLate)
		w.ask("POST", "/messages", order(openid, "")).got(202, "") // its credit came back
	})
}

func TestMessagesThatAreFaulty(t *testing.T) {
	eachRedis(t, func(t *testing.T, rdb redis.UniversalClient) {
		w := newWorld(t, rdb)
		openid, session := w.login("ann")
		w.accept(session)
		right := order(openid, "")
		for name, c := range map[string]struct {
			body   string
			status int
			code   Code
			fields string
		}{
			"no body":           {"", 400, Malformed, ""},
			"not JSON":          {"hello", 400, Malformed, ""},
			"a list":            {"[" + right + "]", 400, Malformed, ""},
			"two":               {right + right, 400, Malformed, ""},
			"not UTF-8":         {strings.Replace(right, "apples", "\xff\xfe", 1), 422, InvalidMessage, "data.thing1"},
			"half a character":  {strings.Replace(right, "apples", `\ud83d`, 1), 422, InvalidMessage, "data.thing1"},
			"halves everywhere": {order(openid, `,"metadata":{"a":{"\udc00":1}},"supersede_key":"\ud83d","lang":"\ud83d"`), 422, InvalidMessage, "metadata.a.\ufffd supersede_key lang"},
			"half an app":       {strings.Replace(right, `"app":"shop"`, `"app":"shop\ud83d"`, 1), 422, InvalidMessage, "app"},
			"half, truncated":   {strings.Replace(order(openid, `,"truncate":true`), "apples", strings.Repeat("长", 25)+`\ud83d`, 1), 422, InvalidMessage, "data.thing1"},
			"two marks":         {"\ufeff\ufeff" + right, 400, Malformed, ""},
			"a value of bools":  {strings.Replace(right, `"apples"`, `true`, 1), 422, InvalidMessage, "data.thing1"},
			"a year and more":   {order(openid, `,"send_at":"2099-01-01T00:00:00Z","expires_at":"9999-01-01T00:00:00Z"`), 422, InvalidMessage, "send_at expires_at"},
			"wrong type":        {strings.Replace(right, `"page":"pages/order?id=1"`, `"page":1`, 1), 400, Malformed, "page"},
			"wrong type, more":  {strings.Replace(order(openid, `,"foo":1,"lang":7`), `"page":"pages/order?id=1"`, `"page":1`, 1), 400, Malformed, "page lang foo"},
			"a time as number":  {order(openid, `,"send_at":1795896000`), 400, Malformed, "send_at"},
			"a time as bool":    {order(openid, `,"expires_at":true`), 400, Malformed, "expires_at"},
			"not a time":        {order(openid, `,"send_at":"soon"`), 422, InvalidMessage, "send_at"},
			"no times and more": {order(openid, `,"send_at":"2026-11-28T20:00:00+0800","expires_at":"","lang":"zz","bar":1`), 422, InvalidMessage, "bar send_at expires_at lang"},
			"unknown field":     {order(openid, `,"templateid":"x","to_user":"y"`), 422, InvalidMessage, "templateid to_user"},
			"unknown inside":    {strings.Replace(right, `"openid"`, `"open_id"`, 1), 422, InvalidMessage, "to.open_id to"},
			"unknown and more":  {strings.Replace(order(openid, `,"foo":1,"lang":"zz","metadata":[]`), `{"value":"apples"}`, `""`, 1), 422, InvalidMessage, "foo metadata lang data.thing1"},
			"twice and more":    {order(openid, `,"app":"other","lang":"zz","lang":"en_US"`), 422, InvalidMessage, "app lang lang"},
			"nothing known":     {`{"foo":1,"bar":2}`, 422, InvalidMessage, "foo bar app to template_id data"},
			"foreign msgtype":   {`{"app":"shop","to":{"openid":"` + openid + `"},"channel":"customer_service","msgtype":"voice","voice":{"media_id":"x"},"template_id":"T"}`, 422, InvalidMessage, "voice template_id msgtype"},
			"user with a break": {strings.Replace(right, `"openid":"`+openid, `"user":"u\n1`, 1), 422, InvalidMessage, "to.user"},
			"field twice":       {order(openid, `,"app":"shop"`), 422, InvalidMessage, "app"},
			"field in capitals": {order(openid, `,"Lang":"zh_CN"`), 422, InvalidMessage, "Lang"},
			"unknown in a part": {order(openid, `,"subscribe":{"bogus":1,"to":{"openid":"x"},"no_credit":"try"}`), 422, InvalidMessage, "subscribe.bogus subscribe.to subscribe.no_credit"},
			"in the old part":   {order(openid, `,"template":{"bogus":1,"form_id":"x"}`), 422, InvalidMessage, "template.bogus template"},
			"a legacy color":    {strings.Replace(order(openid, `,"color":"red"`), `"subscribe"`, `"template"`, 1), 422, InvalidMessage, "color"},
			"of other channels": {order(openid, `,"msgtype":"text","text":{"content":"x"},"uniform":{},"oa_template":{},"form_id":"1"`), 422, InvalidMessage, "msgtype text oa_template form_id uniform"},
			"wrong alias":       {strings.Replace(order(openid, `,"template":"none"`), `"template_id":"`+tOrder+`",`, "", 1), 422, InvalidMessage, "template template_id"},
			"page with a slash": {strings.Replace(right, `"pages/order?id=1"`, `"/pages/order"`, 1), 422, InvalidMessage, "page"},
			"value too long":    {strings.Replace(right, "apples", strings.Repeat("a", 21), 1), 422, InvalidMessage, "data.thing1"},
			"no app":            {strings.Replace(right, `"app":"shop",`, "", 1), 422, InvalidMessage, "app"},
			"unknown template":  {strings.Replace(right, tOrder, "Tnone", 1), 422, InvalidMessage, "template_id"},
			"too large":         {order(openid, `,"metadata":{"x":"`+strings.Repeat("x", 9000)+`"}`), 413, TooLarge, ""},
		} {
			t.Run(name, func(t *testing.T) {
				got := w.ask("POST", "/messages", c.body).got(c.status, c.code)
				if f := got.fields(); f != c.fields {
					t.Errorf("blames %q, want %q: %s", f, c.fields, got.Body)
				}
			})
		}
		w.ask("POST", "/messages", right).got(202, "") // none of them took the credit
	})
}

// An item of a batch is read as strictly as a message of its own: every fault, with its path.
func TestBatchItemsAreReadAsStrictly(t *testing.T) {
	eachRedis(t, func(t *testing.T, rdb redis.UniversalClient) {
		w := newWorld(t, rdb)
		openid, _ := w.login("ann")
		bad := strings.Replace(order(openid, `,"Lang":"zh_CN","subscribe":{"bogus":1}`), `"openid"`, `"open_id"`, 1)
		var out struct{ Results []batchItem }
		w.ask("POST", "/messages/batch", `{"messages":[`+bad+`,`+order(openid, `,"template":{"bogus":1}`)+`]}`).got(200, "").into(&out)
		for i, want := range []string{"Lang subscribe.bogus to to.open_id", "template template.bogus"} {
			p := out.Results[i].Problem
			if p == nil || p.Code != InvalidMessage {
				t.Fatalf("%+v", out.Results[i])
			}
			var fields []string
			for _, f := range p.Errors {
				fields = append(fields, f.Field)
			}
			slices.Sort(fields)
			if got := strings.Join(fields, " "); got != want {
				t.Errorf("item %d blames %q, want %q", i, got, want)
			}
		}
	})
}

// Whatever is wrong inside an item is its own result; what is wrong with the batch refuses it whole.
func TestBatchItemsAnswerForThemselves(t *testing.T) {
	eachRedis(t, func(t *testing.T, rdb redis.UniversalClient) {
		w := newWorld(t, rdb)
		openid, session := w.login("ann")
		w.accept(session)
		items := []struct {
			body   string
			status int
			fields string
		}{
			{order(openid, ""), 202, ""},
			{order(openid, `,"app":"shop"`), 422, "app"},
			{order(openid, `,"metadata":{"x":1,"x":2},"foo":"}]","lang":"zz"`), 422, "metadata.x foo lang"},
			{order(openid, `,"send_at":"x"`), 422, "send_at"},
			{order(openid, `,"metadata":`+strings.Repeat(`{"a":`, 40)+"1"+strings.Repeat("}", 40)), 400, ""},
			{order(openid, `,"lang":7`), 400, "lang"},
			{order(openid, `,"metadata":{"x":"`+strings.Repeat("x", 9000)+`"}`), 413, ""},
		}
		var results []batchItem
		for some := range slices.Chunk(items, 4) { // so many the world's batches may have
			body := `{"messages":[` + some[0].body
			for _, it := range some[1:] {
				body += " , " + it.body
			}
			var out struct{ Results []batchItem }
			w.ask("POST", "/messages/batch", body+`]}`).got(200, "").into(&out)
			results = append(results, out.Results...)
		}
		for i, it := range items {
			r, fields := results[i], ""
			if r.Problem != nil {
				for _, f := range r.Problem.Errors {
					fields += " " + f.Field
				}
			}
			if r.Status != it.status || strings.TrimSpace(fields) != it.fields {
				t.Errorf("item %d: %d blames %q, want %d %q", i, r.Status, fields, it.status, it.fields)
			}
		}
		for body, fields := range map[string]string{ // what cannot be a message ends the batch
			`{"messages":[{},[{"app":1,"app":2}],7]}`: "messages[1]",
			`{"messages":[null]}`:                     "messages[0]",
			`{"messages":[{},{},{},7`:                 "messages[3]",
			`{"messages":{}}`:                         "messages",
			`{"messages":[{"a":tru}]}`:                "",
		} {
			if got := w.ask("POST", "/messages/batch", body).got(400, Malformed).fields(); got != fields {
				t.Errorf("%s names %q", body, got)
			}
		}
		for body, fields := range map[string]string{
			`{"messages":[{}],"messages":[{}]}`:  "messages",
			`{"messages":[{"a":1,"a":2}],"x":1}`: "x",
			`{"message":[{}],"x":1}`:             "message x messages",
		} {
			if got := w.ask("POST", "/messages/batch", body).got(422, InvalidRequest).fields(); got != fields {
				t.Errorf("%s blames %q", body, got)
			}
		}
	})
}

// A partner's name for a user is shown in lists and logs: a new one has no control characters. An old one can be taken
// back.
func TestNamesOfUsersCanBeShown(t *testing.T) {
	eachRedis(t, func(t *testing.T, rdb redis.UniversalClient) {
		w := newWorld(t, rdb)
		openid, _ := w.login("ann")
		for name, escaped := range map[string]string{"u%00": `u\u0000`, "u%0A1": `u\n1`, "%7F": `\u007f`, "u%C2%85": `u\u0085`} {
			if f := w.ask("PUT", "/bindings/shop/"+name, `{"openid":"`+openid+`"}`).got(422, InvalidRequest).fields(); f != "user" {
				t.Errorf("%s blames %q", name, f)
			}
			if f := w.ask("POST", "/bindings/tickets", `{"user":"`+escaped+`"}`).got(422, InvalidRequest).fields(); f != "app user" {
				t.Errorf("%s blames %q", name, f)
			}
		}
		w.ask("PUT", "/bindings/shop/%FF", `{"openid":"`+openid+`"}`).got(422, InvalidRequest)
		if err := w.rooms.Bindings.Bind(t.Context(), "orders", "shop", "u\n1", openid, binding.NewSerial()); err != nil {
			t.Fatal(err)
		}
		w.ask("GET", "/bindings/shop/u%0A1", "").got(200, "")
		w.ask("DELETE", "/bindings/shop/u%0A1", "").got(200, "")
		w.ask("PUT", "/bindings/shop/%E5%BC%A0%20+", `{"openid":"`+openid+`"}`).got(200, "")
	})
}

func TestBatch(t *testing.T) {
	eachRedis(t, func(t *testing.T, rdb redis.UniversalClient) {
		w := newWorld(t, rdb)
		openid, session := w.login("ann")
		w.accept(session)
		body := fmt.Sprintf(`{"messages":[%s,{"app":"shop","nonsense":1},%s]}`, order(openid, ""), strings.Replace(order(openid, ""), "shop", "other", 1))
		first := w.as(asking{id: "B-1"}, "POST", "/messages/batch", body).got(200, "")
		var out struct{ Results []batchItem }
		first.into(&out)
		var got []string
		for _, r := range out.Results {
			code := Code("-")
			if r.Problem != nil {
				if code = r.Problem.Code; r.Problem.Status != r.Status || r.Problem.RequestID == "" || r.Message != nil {
					t.Errorf("%+v", r)
				}
			} else if r.Message.State != "queued" {
				t.Errorf("%+v", r.Message)
			}
			got = append(got, fmt.Sprint(r.Status, " ", code))
		}
		if diff := cmp.Diff([]string{"202 -", "422 invalid_message", "403 not_allowed"}, got); diff != "" {
			t.Fatalf("%s%s", diff, first.Body)
		}
		if strings.Contains(first.Body.String(), `"problem":null`) {
			t.Error("a message with a null problem beside it")
		}
		again := w.as(asking{id: "B-1"}, "POST", "/messages/batch", body).got(200, "")
		if again.Body.String() != first.Body.String() || again.Header().Get("Idempotent-Replayed") != "true" {
			t.Errorf("%s", again.Body)
		}
		w.ask("POST", "/messages/batch", `{"messages":[{},{},{},{},{},{}]}`).got(413, TooLarge)
		w.ask("POST", "/messages/batch", `{"messages":[]}`).got(422, InvalidRequest)
		w.ask("POST", "/messages/batch", `{"message":[]}`).got(422, InvalidRequest)
		w.ask("POST", "/messages/batch", `{"messages":{}}`).got(400, Malformed)
		w.ask("POST", "/messages/batch", `{"messages":[{"x":"`+strings.Repeat("x", 30<<10)+`"}]}`).got(200, "") // past limits.body, below limits.proxy_body
		w.ask("POST", "/messages/batch", `{"messages":[{"x":"`+strings.Repeat("x", 65<<10)+`"}]}`).got(413, TooLarge)
	})
}

// A batch whose items failed for the moment's sake is not kept: the same id gives the rest another chance (decision 3).
func TestABatchWithPassingFaultsIsNotKept(t *testing.T) {
	eachRedis(t, func(t *testing.T, rdb redis.UniversalClient) {
		w := newWorld(t, rdb)
		w.gate.relay = w.without(w.cut())
		openid := w.sim.User("shop", "ann")
		body := `{"messages":[` + order(openid, `,"no_credit":"try"`) + `]}`
		var out struct{ Results []batchItem }
		w.as(asking{id: "B-1"}, "POST", "/messages/batch", body).got(200, "").into(&out)
		if len(out.Results) != 1 || out.Results[0].Status != 503 {
			t.Fatalf("%+v", out)
		}
		w.gate.relay = w.relay
		again := w.as(asking{id: "B-1"}, "POST", "/messages/batch", body)
		again.got(200, "").into(&out)
		if out.Results[0].Status != 202 || again.Header().Get("Idempotent-Replayed") != "" {
			t.Errorf("%s", again.Body)
		}
	})
}

func TestListsOfMessages(t *testing.T) {
	eachRedis(t, func(t *testing.T, rdb redis.UniversalClient) {
		w := newWorld(t, rdb)
		openid, session := w.login("ann")
		if body := w.ask("GET", "/messages", "").got(200, "").Body.String(); body != `{"items":[],"next_cursor":null}` {
			t.Errorf("an empty list is %s", body)
		}
		w.accept(session)
		w.accept(session)
		w.accept(session)
		for range 3 {
			w.ask("POST", "/messages", order(openid, "")).got(202, "")
		}
		var page struct {
			Items []relay.Message
			Next  *string `json:"next_cursor"`
		}
		seen := map[string]bool{}
		target := "/messages?app=shop&openid=" + openid + "&state=queued&limit=2"
		for range 5 {
			w.ask("GET", target, "").got(200, "").into(&page)
			for _, m := range page.Items {
				seen[m.ID] = true
			}
			if page.Next == nil {
				break
			}
			target = "/messages?app=shop&openid=" + openid + "&state=queued&limit=2&cursor=" + *page.Next
		}
		if len(seen) != 3 || page.Next != nil {
			t.Errorf("%d messages seen page by page, next %v", len(seen), page.Next)
		}
		for target, field := range map[string]string{
			"/messages?stat=queued":                      "stat",
			"/messages?state=lost":                       "state",
			"/messages?state=queued&state=sent":          "state",
			"/messages?limit=0":                          "limit",
			"/messages?limit=many":                       "limit",
			"/messages?limit=101":                        "limit",
			"/messages?channel=sms":                      "channel",
			"/messages?cursor=x":                         "cursor",
			"/messages?cursor=zz~msg_1":                  "cursor",
			"/messages?openid=" + openid + "&user=u":     "openid",
			"/messages?since=yesterday&until=1795896000": "since until",
			"/messages?since=2026-12-02T00:00:00Z&until=2026-12-01T00:00:00Z": "until",
			"/messages?app=shop&open_id=" + openid + "&x=":                    "open_id x",
		} {
			if got := w.ask("GET", target, "").got(422, InvalidRequest).fields(); got != field {
				t.Errorf("%s blames %q", target, got)
			}
		}
		w.ask("GET", "/messages?app=%zz", "").got(400, Malformed)
	})
}

// Each filter chooses by itself and with others, a rare one beyond a page's length too; a page is full while there is enough.
func TestMessagesAreFiltered(t *testing.T) {
	eachRedis(t, func(t *testing.T, rdb redis.UniversalClient) {
		w := newWorld(t, rdb)
		ann, session := w.login("ann")
		w.accept(session)
		bob, _ := w.login("bob")
		began := time.Now().Add(-time.Minute)
		send := func(body string) relay.Message {
			var m relay.Message
			w.ask("POST", "/messages", body).got(202, "").into(&m)
			return m
		}
		first := send(order(ann, `,"priority":"bulk"`))
		held := send(order(bob, `,"no_credit":"hold"`))
		other := send(strings.Replace(strings.Replace(order(bob, `,"no_credit":"try"`), tOrder, tOther, 1), `,"amount2":"¥100"`, "", 1))
		text := send(`{"app":"shop","to":{"openid":"` + bob + `"},"channel":"customer_service","msgtype":"text","text":{"content":"x"},"no_credit":"try"}`)
		for range 60 {
			send(order(bob, `,"no_credit":"try"`))
		}
		list := func(query string) (ids []string, next *string) {
			t.Helper()
			var page struct {
				Items []relay.Message
				Next  *string `json:"next_cursor"`
			}
			w.ask("GET", "/messages?"+query, "").got(200, "").into(&page)
			for _, m := range page.Items {
				ids = append(ids, m.ID)
			}
			return ids, page.Next
		}
		future := url.QueryEscape(time.Now().Add(time.Hour).Format(time.RFC3339))
		for query, want := range map[string][]string{
			"openid=" + ann:            {first.ID},
			"state=held":               {held.ID},
			"template_id=" + tOther:    {other.ID},
			"channel=customer_service": {text.ID},
			"channel=customer_service&app=shop&state=queued": {text.ID},
			"channel=customer_service&state=held":            nil,
			"template_id=" + tOther + "&openid=" + ann:       nil,
			"msgid=1":             nil,
			"audience_send=aud_1": nil,
			"state=held&limit=1":  {held.ID},
			"state=held&since=" + url.QueryEscape(began.Format(time.RFC3339)) + "&until=" + future: {held.ID},
			"since=" + future: nil,
			"until=" + url.QueryEscape(began.Format(time.RFC3339)): nil,
		} {
			got, next := list(query)
			if diff := cmp.Diff(want, got); diff != "" || next != nil && *next == "" {
				t.Errorf("%s: %s", query, diff)
			}
		}
		seen, pages := map[string]bool{}, 0
		for target := "state=queued&limit=25"; ; pages++ {
			ids, next := list(target)
			for _, id := range ids {
				if seen[id] {
					t.Errorf("%s came twice", id)
				}
				seen[id] = true
			}
			if next == nil {
				break
			}
			if len(ids) != 25 {
				t.Errorf("page %d has %d items", pages, len(ids))
			}
			target = "state=queued&limit=25&cursor=" + *next
		}
		if len(seen) != 63 || pages != 2 {
			t.Errorf("%d messages on %d pages", len(seen), pages+1)
		}
	})
}

// A signed batch that is hostile is refused at the first item that says so: it costs the reading of its bytes.
func TestAHostileBatchCostsItsBytesAlone(t *testing.T) {
	eachRedis(t, func(t *testing.T, rdb redis.UniversalClient) {
		w := newWorld(t, rdb)
		w.gate = Public(Options{Relay: w.relay, Answers: webhook.NewIdempotencyStore(rdb), Version: "test"})
		const size = 10 << 20
		for again, c := range map[string]struct {
			status int
			code   Code
		}{"0,": {400, Malformed}, "{},": {400, Malformed}, "[": {400, Malformed}, "null,": {400, Malformed}} {
			body := `{"messages":[` + strings.Repeat(again, size/len(again))
			if again == "{}," {
				body, c.status, c.code = body+"{}]}", 413, TooLarge
			}
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			w.ask("POST", "/messages/batch", body).got(c.status, c.code)
			runtime.ReadMemStats(&after)
			if grew := after.TotalAlloc - before.TotalAlloc; grew > 12*size { // signing and reading it, here too
				t.Errorf("%s: %d MB allocated", again, grew>>20)
			}
		}
	})
}
