package callback

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/silenceper/wechat/v2/util"
)

// TestRefusedUnread: what no body can prove is refused before its body is read, and alike for every app there is or
// is not.
func TestRefusedUnread(t *testing.T) {
	apps := append([]App{}, handlerApps...)
	for i := range apps {
		apps[i].MaxAge = time.Hour
	}
	d, err := NewHandler(apps, nil, HandlerOptions{})
	if err != nil {
		t.Fatal(err)
	}
	clock := time.Now()
	at := func(t time.Time) string { return strconv.FormatInt(t.Unix(), 10) }
	ts, sum := at(clock), strings.Repeat("0", 40)
	signature := util.Signature(key1.Token, ts, "42")
	for name, query := range map[string]string{
		"nothing":                     "",
		"empty":                       "signature=&msg_signature=&timestamp=&nonce=",
		"no timestamp":                "msg_signature=" + sum + "&nonce=42",
		"timestamp is no number":      "msg_signature=" + sum + "&nonce=42&timestamp=now",
		"no nonce":                    "msg_signature=" + sum + "&timestamp=" + ts,
		"stale":                       "msg_signature=" + sum + "&nonce=42&timestamp=" + at(clock.Add(-2*time.Hour)),
		"ahead":                       "msg_signature=" + sum + "&nonce=42&timestamp=" + at(clock.Add(6*time.Minute)),
		"msg_signature too short":     "msg_signature=" + sum[1:] + "&nonce=42&timestamp=" + ts,
		"msg_signature in capitals":   "msg_signature=" + strings.Repeat("A", 40) + "&nonce=42&timestamp=" + ts,
		"no msg_signature, another's": "signature=" + sum + "&nonce=42&timestamp=" + ts,
		"no msg_signature":            "signature=" + signature + "&nonce=42&timestamp=" + ts,
	} {
		for _, app := range []string{"shop", "other", "mixed", "open", "nobody", ""} {
			if app == "open" && name == "no msg_signature" {
				continue // a plain push
			}
			r := httptest.NewRequest("POST", "/callback/"+app+"?"+query, untouched{t})
			r.ContentLength = 200 << 10
			w := httptest.NewRecorder()
			if d.ServeApp(w, r, app); w.Code != 403 || w.Body.Len() != 0 || len(w.Header()) != 0 {
				t.Errorf("%s at %q: %d %v", name, app, w.Code, w.Header())
			}
		}
	}
	if n := d.bodies.used.Load(); n != 0 {
		t.Errorf("%d bytes are still counted", n)
	}
}

// TestAnyAge: an app that takes any age keeps its pushes from being refused for their age.
func TestAnyAge(t *testing.T) {
	d, err := NewHandler(handlerApps, func(context.Context, *Push) ([]byte, error) { return nil, nil }, HandlerOptions{})
	if err != nil {
		t.Fatal(err)
	}
	for name, e := range *d.verifiers.Load() {
		if e.oldest != 0 {
			t.Errorf("%s: %v", name, e.oldest)
		}
	}
}

// TestBodiesInHand: bodies that are held back take a bounded amount of memory over all connections, and pushes with a
// right signature come in all the same.
func TestBodiesInHand(t *testing.T) {
	a := App{Name: "a", AppID: "wx1", Key: key1, MaxAge: time.Hour}
	results := make(chan string, 1000)
	d, err := NewHandler([]App{a}, func(context.Context, *Push) ([]byte, error) { return nil, nil },
		HandlerOptions{Budget: 2 * time.Second, OnResult: func(_, _, result string) { results <- result }})
	if err != nil {
		t.Fatal(err)
	}
	d.bodies.anyLimit, d.bodies.signedLimit = 256<<10, 512<<10
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { d.ServeApp(w, r, strings.Trim(r.URL.Path, "/")) }))
	defer srv.Close()
	ts := strconv.FormatInt(time.Now().Unix(), 10)
	held := strings.Repeat("x", 100<<10)
	for i := range 20 {
		conn, err := net.Dial("tcp", srv.Listener.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		app := []string{"a", "nobody"}[i%2]
		fmt.Fprintf(conn, "POST /%s?timestamp=%s&nonce=42&msg_signature=%s HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n%s", app, ts, strings.Repeat("0", 40), len(held)+1, held)
	}
	for range 15 { // the others hold what there is
		if r := <-results; r != ResultBusy {
			t.Fatalf("%s", r)
		}
		if n := d.bodies.used.Load(); n > d.bodies.anyLimit {
			t.Fatalf("%d bytes in hand", n)
		}
	}
	query, body, err := ComposeRequest(a, JSON, []byte(strings.Replace(textJSONPush, `"hi"`, `"`+strings.Repeat("x", 60<<10)+`"`, 1)), "42", time.Now())
	if err != nil {
		t.Fatal(err)
	}
	res, err := http.Post(srv.URL+"/a?"+query, "application/json", bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	if res.Body.Close(); res.StatusCode != 200 {
		t.Errorf("a push: %d", res.StatusCode)
	}
	counts := map[string]int{}
	for range 6 {
		counts[<-results]++
	}
	if counts[ResultTaken] != 1 || counts[ResultUnproven]+counts[ResultBusy] != 5 {
		t.Errorf("%v", counts)
	}
	for d.bodies.used.Load() != 0 { // the last handler is about to return
		select {
		case <-t.Context().Done():
			t.Fatal("memory is not given back")
		default:
		}
	}
}

// TestHeldBack over a real connection: a body that does not come is answered early when nothing speaks for it, and
// the answer says nothing of the app; with a right signature it has the whole budget.
func TestHeldBack(t *testing.T) {
	a := App{Name: "a", AppID: "wx1", Key: key1, MaxAge: time.Hour}
	d, err := NewHandler([]App{a}, func(context.Context, *Push) ([]byte, error) { return nil, errors.New("called") }, HandlerOptions{Budget: 400 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header()["Date"] = nil
		d.ServeApp(w, r, strings.Trim(r.URL.Path, "/"))
	}))
	defer srv.Close()
	ts := strconv.FormatInt(time.Now().Unix(), 10)
	forged := "timestamp=" + ts + "&nonce=42&msg_signature=" + strings.Repeat("0", 40)
	answer := func(path string) string {
		conn, err := net.Dial("tcp", srv.Listener.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		fmt.Fprintf(conn, "POST %s HTTP/1.1\r\nHost: a\r\nContent-Length: 1000\r\n\r\n{", path)
		got, err := io.ReadAll(conn)
		if err != nil {
			t.Fatal(err)
		}
		return string(got)
	}
	const refused = "HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
	for _, path := range []string{"/a", "/nobody", "/a?" + forged, "/nobody?" + forged} {
		if got := answer(path); got != refused {
			t.Errorf("%s: %q", path, got)
		}
	}
	signed := forged + "&signature=" + util.Signature(key1.Token, ts, "42")
	if got := answer("/a?" + signed); !strings.HasPrefix(got, "HTTP/1.1 500 ") {
		t.Errorf("signed: %q", got)
	}
}

// TestProbeIsShort: a request without any signature is read as far as a probe goes.
func TestProbeIsShort(t *testing.T) {
	d, err := NewHandler(handlerApps, nil, HandlerOptions{})
	if err != nil {
		t.Fatal(err)
	}
	from := strings.NewReader(strings.Repeat(" ", 64<<10))
	r := httptest.NewRequest("POST", "/callback/shop", io.MultiReader(from))
	r.ContentLength = -1
	w := httptest.NewRecorder()
	if d.ServeApp(w, r, "shop"); w.Code != 403 || from.Len() < 56<<10 {
		t.Errorf("%d, %d bytes left", w.Code, from.Len())
	}
}

// TestScratchIsBounded: the memory of a large push is not kept.
func TestScratchIsBounded(t *testing.T) {
	s := &scratch{cipher: make([]byte, 1<<20)}
	s.free()
	if got := scratches.Get().(*scratch); cap(got.cipher) == 1<<20 {
		t.Error("kept")
	}
}
