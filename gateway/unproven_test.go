package gateway

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/go-redis/v9"

	"github.com/wxrelay/wxrelay/scripts/slow"
)

// tcp is a world behind a real listener.
func tcp(t *testing.T, change func(*world)) (*world, string) {
	rdb := redis.NewClient(&redis.Options{Addr: miniredis.RunT(t).Addr()})
	t.Cleanup(func() { _ = rdb.Close() })
	w := newWorld(t, rdb)
	if change != nil {
		change(w)
	}
	s := httptest.NewUnstartedServer(w.gate)
	s.Config.ReadTimeout = bodyPatience
	s.Start()
	t.Cleanup(s.Close)
	return w, s.Listener.Addr().String()
}

// claims are headers that could belong to a right signature.
func claims() string {
	at := time.Now().Unix()
	return fmt.Sprintf("webhook-id: req-1\r\nwebhook-timestamp: %d\r\nwebhook-signature: %s\r\n", at, sign(foreign, "req-1", at, "{}"))
}

// begin opens a connection and sends a request's head.
func begin(t *testing.T, addr, target, headers string, length int64) net.Conn {
	t.Helper()
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	fmt.Fprintf(c, "POST %s HTTP/1.1\r\nHost: wx\r\nContent-Length: %d\r\n%s\r\n", target, length, headers)
	return c
}

// answered reads an answer and waits for the connection's end.
func answered(t *testing.T, c net.Conn) (status int) {
	t.Helper()
	_ = c.SetReadDeadline(time.Now().Add(5 * time.Second))
	r, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		t.Fatal(err)
	}
	_, _ = io.Copy(io.Discard, r.Body)
	if !r.Close {
		t.Error("the answer does not close the connection")
	}
	if _, err := c.Read(make([]byte, 1)); err != io.EOF {
		t.Errorf("the connection stays open: %v", err)
	}
	return r.StatusCode
}

// What the headers show to be worth nothing is answered before a byte of the body comes, and the connection is closed.
// The length a request announces is looked at only where the headers could be right: a stranger learns no limits.
func TestRefusedBeforeTheBody(t *testing.T) {
	w, addr := tcp(t, nil)
	stale := strings.Replace(claims(), "webhook-timestamp: ", "webhook-timestamp: 1", 1)
	for name, c := range map[string]struct {
		target, headers string
		length          int64
		status          int
	}{
		"no signature":                    {"/v1/partners/orders/messages", "", 10, 401},
		"no signature, too large":         {"/v1/partners/orders/messages", "", 1 << 40, 401},
		"unknown partner":                 {"/v1/partners/nobody/messages/batch", claims(), 12_500_000, 401},
		"unknown partner, too large":      {"/v1/partners/nobody/messages", claims(), 1 << 40, 401},
		"stale":                           {"/v1/partners/orders/apps/shop/media", stale, 12_000, 401},
		"could be right, too large":       {"/v1/partners/orders/messages", claims(), 8<<10 + 1, 413},
		"could be right, batch too large": {"/v1/partners/orders/messages/batch", claims(), 64<<10 + 1, 413},
		"media too large":                 {"/v1/partners/orders/apps/shop/media", claims(), 64<<10 + 1, 413},
		"mini-program, too large":         {"/mp/shop/login", "", 8<<10 + 1, 413},
		"mini-program, no session":        {"/mp/shop/bind", "", 10, 401},
		"no such app":                     {"/mp/nowhere/login", "", 10, 404},
		"no such path":                    {"/nowhere", "", 1 << 40, 404},
		"no such method":                  {"/problems", "", 1 << 40, 405},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel() // net/http waits half a second before it closes
			began := time.Now()
			if got := answered(t, begin(t, addr, c.target, c.headers, c.length)); got != c.status {
				t.Errorf("%d, want %d", got, c.status)
			}
			slow.Within(t, began, 4*time.Second) // else it waited for the body
		})
	}
	t.Cleanup(func() { // after the parallel ones
		if n := w.gate.unprovenBytes.used.Load(); n != 0 {
			t.Errorf("%d bytes are held", n)
		}
	})
}

// Requests that might be right and never end hold no more than the budget, of one partner's name and over all.
func TestHeldBackBodiesAreBounded(t *testing.T) {
	const length, each = 1 << 20, 20
	w, addr := tcp(t, func(w *world) {
		w.gate = Public(Options{Relay: w.relay, Limits: Limits{ProxyBody: length}})
	})
	runtime.GC()
	var before, during runtime.MemStats
	runtime.ReadMemStats(&before)
	var mu sync.Mutex
	statuses := map[int]int{}
	var answers sync.WaitGroup
	piece := make([]byte, length-1)
	for _, partner := range []string{"orders", "poor", "turned", "slow", "nobody"} {
		for range each {
			c := begin(t, addr, "/v1/partners/"+partner+"/messages/batch", claims(), length)
			answers.Go(func() {
				_, _ = c.Write(piece) // all but the last byte; the gateway may hang up on it
				_ = c.SetReadDeadline(time.Now().Add(time.Second))
				r, err := http.ReadResponse(bufio.NewReader(c), nil)
				mu.Lock()
				defer mu.Unlock()
				if err != nil {
					statuses[0]++ // held, or hung up on
					return
				}
				statuses[r.StatusCode]++
			})
		}
	}
	answers.Wait()
	runtime.GC()
	runtime.ReadMemStats(&during)
	unproven := w.gate.unprovenBytes.used.Load()
	if unproven > w.gate.unprovenBytes.limit || unproven == 0 {
		t.Errorf("%d bytes are held, the budget is %d", unproven, w.gate.unprovenBytes.limit)
	}
	for _, partner := range []string{"orders", "poor", "turned", "slow"} {
		if b := w.gate.budgetsOf(partner); b.unproven.used.Load() > b.unproven.limit {
			t.Errorf("%s: %d bytes are held, the budget is %d", partner, b.unproven.used.Load(), b.unproven.limit)
		}
	}
	if _, made := w.gate.partnerBytes.Load("nobody"); made {
		t.Error("strangers have a budget of their own")
	}
	if statuses[503] == 0 {
		t.Errorf("nobody is told to come again: %v", statuses)
	}
	for status := range statuses {
		if status != 0 && status != 401 && status != 503 {
			t.Errorf("answers %v", statuses)
		}
	}
	// Without a bound these are 80 MiB.
	if grown := int64(during.HeapAlloc) - int64(before.HeapAlloc); grown > 24<<20 {
		t.Errorf("the heap has grown by %d MiB", grown>>20)
	}
	t.Logf("answers %v, %d KiB in hand, heap %d KiB", statuses, unproven>>10, (int64(during.HeapAlloc)-int64(before.HeapAlloc))>>10)
}

// A body that is proven moves from the shares of the unproven to its partner's own, and leaves it with the request.
func TestAProvenBodyCountsForItsPartner(t *testing.T) {
	w, _ := tcp(t, nil)
	body := `{"messages":[` + strings.Repeat(" ", 40<<10) + `]}`
	w.ask("POST", "/messages/batch", body).got(422, InvalidRequest)
	own := w.gate.budgetsOf("orders")
	own.proven.used.Store(own.proven.limit) // it has as much in hand as it may
	w.ask("POST", "/messages/batch", body).got(429, RateLimited)
	w.ask("POST", "/messages", `{}`).got(422, InvalidMessage) // a small request always fits
	own.proven.used.Store(0)
	w.as(asking{secret: foreign}, "POST", "/messages/batch", body).got(401, Unauthorized)
	for name, b := range map[string]*budget{"all unproven": &w.gate.unprovenBytes, "its unproven": &own.unproven, "its proven": &own.proven} {
		if n := b.used.Load(); n != 0 {
			t.Errorf("%s: %d bytes are not given back", name, n)
		}
	}
}

// The operator hears why a signature proves nothing; the caller does not.
func TestTheOperatorHearsWhyASignatureIsRefused(t *testing.T) {
	w, _ := tcp(t, nil)
	var heard []Refusal
	w.gate.refused = func(r Refusal) { heard = append(heard, r) }
	now, body := time.Now().Unix(), "{}"
	none := []string(nil)
	target := "POST /v1/partners/orders/messages\n" + body
	long := strings.Repeat("n", 200)
	for _, c := range []struct {
		a     asking
		path  string
		cause string
		known bool
	}{
		{asking{partner: "nobody"}, "/messages", "partner", false},
		{asking{partner: long}, "/messages", "partner", false},
		{asking{secret: foreign}, "/messages", "secret", true},
		{asking{at: now - 400}, "/messages", "skew", true},
		{asking{header: http.Header{"Webhook-Signature": none}}, "/messages", "headers", true},
		{asking{id: "a.b"}, "/messages", "id", true},
		{asking{payload: &target}, "/messages", "payload", true},
		{asking{payload: &body}, "/bindings/tickets", "payload", true},
	} {
		heard = nil
		w.as(c.a, "POST", c.path, body).got(401, Unauthorized)
		if len(heard) != 1 {
			t.Fatalf("%s: heard %v", c.cause, heard)
		}
		r := heard[0]
		if r.Cause != c.cause || r.Known != c.known || len(r.Partner) > 64 || r.RequestID == "" || r.Client != "192.0.2.1" {
			t.Errorf("want %s: %+v", c.cause, r)
		}
		if skew := r.Skew.Round(10 * time.Second); c.cause == "skew" != (skew == -400*time.Second) {
			t.Errorf("%s: skew %s", c.cause, r.Skew)
		}
	}
}

// nginx in front, with a prefix that it strips: what the partner signed is what it asked nginx for.
func TestAStrippedPrefixIsPartOfTheSignature(t *testing.T) {
	w, _ := tcp(t, nil)
	ask := func(peer, signed string, header http.Header) answer {
		t.Helper()
		const target = "/v1/partners/orders/messages?state=queued"
		at, id := time.Now().Unix(), "req-"+strconv.FormatInt(w.ids.Add(1), 10)
		r := httptest.NewRequest("GET", target, nil)
		r.RemoteAddr = peer
		r.Header = header.Clone()
		r.Header.Set("webhook-id", id)
		r.Header.Set("webhook-timestamp", strconv.FormatInt(at, 10))
		r.Header.Set("webhook-signature", sign(secret1, id, at, "GET "+signed+target+"\n"))
		return w.do(r)
	}
	nginx := func(prefix ...string) http.Header {
		return http.Header{"X-Forwarded-For": {"203.0.113.9"}, "X-Forwarded-Proto": {"https"}, "X-Forwarded-Prefix": prefix}
	}
	const proxy, stranger = "10.0.0.7:4711", "203.0.113.9:4711"
	ask(proxy, "/wx", nginx("/wx")).got(200, "")
	ask(proxy, "/wx", nginx("/wx/")).got(200, "")
	ask(proxy, "/api/v2/wx", nginx("/api/v2/wx")).got(200, "")
	ask(proxy, "", nginx("/")).got(200, "")
	ask(proxy, "", nginx()).got(200, "")
	ask(proxy, "", nginx("/wx")).got(401, Unauthorized)         // good for one target only
	ask(proxy, "/wx", nginx()).got(401, Unauthorized)           // nobody stripped anything
	ask(proxy, "/wx", nginx("/wx", "/")).got(401, Unauthorized) // two say different things
	ask(proxy, "wx", nginx("wx")).got(401, Unauthorized)        // no path
	ask(stranger, "/wx", nginx("/wx")).got(401, Unauthorized)   // a stranger's word
	ask(stranger, "", nginx("/wx")).got(200, "")                // which changes nothing
}
