package gateway

import (
	"context"
	"encoding/base64"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/cdproto/page"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"
	"github.com/redis/go-redis/v9"

	"github.com/wxrelay/wxrelay/gateway/console"
	"github.com/wxrelay/wxrelay/relay"
)

// browser finds a Chromium, or skips loudly.
func browser(t *testing.T) string {
	t.Helper()
	for _, name := range []string{os.Getenv("CHROMIUM"), "chromium", "chromium-browser", "google-chrome"} {
		if name == "" {
			continue
		}
		if path, err := exec.LookPath(name); err == nil {
			return path
		}
	}
	t.Skip("NO CHROMIUM WAS FOUND: the console is not tested in a browser. Install chromium, or name one in CHROMIUM.")
	return ""
}

// tab is one browser tab that notes what goes wrong in it.
type tab struct {
	t    *testing.T
	ctx  context.Context
	base string

	mu     sync.Mutex
	errors []string
}

func newTab(t *testing.T, base, user string) *tab {
	t.Helper()
	alloc, stop := chromedp.NewExecAllocator(t.Context(), append(chromedp.DefaultExecAllocatorOptions[:], chromedp.ExecPath(browser(t)), chromedp.NoSandbox,
		chromedp.Flag("disable-dev-shm-usage", true))...)
	t.Cleanup(stop)
	ctx, end := chromedp.NewContext(alloc)
	t.Cleanup(end)
	ctx, cancel := context.WithTimeout(ctx, 3*time.Minute)
	t.Cleanup(cancel)
	b := &tab{t: t, ctx: ctx, base: base}
	chromedp.ListenTarget(ctx, func(ev any) {
		switch ev := ev.(type) {
		case *runtime.EventExceptionThrown:
			b.note(ev.ExceptionDetails.Error())
		case *runtime.EventConsoleAPICalled:
			if ev.Type == runtime.APITypeError || ev.Type == runtime.APITypeWarning {
				b.note(fmt.Sprint(ev.Type, " ", len(ev.Args)))
			}
		case *log.EventEntryAdded:
			if ev.Entry.Level == log.LevelError || ev.Entry.Level == log.LevelWarning {
				b.note(ev.Entry.Text + " " + ev.Entry.URL)
			}
		case *page.EventJavascriptDialogOpening:
			go func() { _ = chromedp.Run(ctx, page.HandleJavaScriptDialog(true)) }()
		}
	})
	head := network.Headers{"Authorization": "Basic " + base64.StdEncoding.EncodeToString([]byte(user+":a password of its own"))}
	b.run(log.Enable(), network.Enable(), network.SetExtraHTTPHeaders(head))
	return b
}

func (b *tab) note(what string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.errors = append(b.errors, what)
}

func (b *tab) run(actions ...chromedp.Action) {
	b.t.Helper()
	if err := chromedp.Run(b.ctx, actions...); err != nil {
		b.t.Fatalf("%v; the page said %q", err, b.errors)
	}
}

// clean fails the test for what the page complained of.
func (b *tab) clean(where string) {
	b.t.Helper()
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, e := range b.errors {
		b.t.Errorf("%s: %s", where, e)
	}
	b.errors = nil
}

func (b *tab) open(path string) {
	b.t.Helper()
	b.run(chromedp.Navigate(b.base+path), chromedp.WaitReady("footer"))
}

func (b *tab) eval(js string) (out string) {
	b.t.Helper()
	b.run(chromedp.Evaluate(js, &out))
	return out
}

// wait looks until a script is true. While a page goes to another one there is nothing to ask.
func (b *tab) wait(js string) {
	b.t.Helper()
	await := func(p *runtime.EvaluateParams) *runtime.EvaluateParams { return p.WithAwaitPromise(true) }
	tick, over := time.NewTicker(50*time.Millisecond), time.After(20*time.Second)
	defer tick.Stop()
	for {
		var yes bool
		err := chromedp.Run(b.ctx, chromedp.Evaluate(js, &yes, await))
		if err == nil && yes {
			return
		}
		select {
		case <-tick.C:
		case <-over:
			b.t.Fatalf("not seen: %s (%v)", js, err)
		}
	}
}

// click presses something and waits for what a script then finds.
func (b *tab) click(selector, then string) {
	b.t.Helper()
	b.run(chromedp.Click(selector, chromedp.ByQuery))
	b.wait(then)
}

// browserWorld is a console with something on every page, behind users.
func browserWorld(t *testing.T) (d *consoleWorld, base string, paths []string) {
	d = newConsoleWorld(t, redis.NewClient(&redis.Options{Addr: miniredis.RunT(t).Addr()}))
	openid, session := d.login("ann")
	d.accept(session)
	d.sim.Grant(openid, tOrder, 1)
	var sent, held relay.Message
	d.ask("POST", "/messages", order(openid, "")).got(202, "").into(&sent)
	d.until("it is sent", func() bool {
		var seen relay.Message
		d.json("/api/messages/"+sent.ID, &seen)
		return seen.State == "sent"
	})
	d.ask("POST", "/messages", order(openid, `,"no_credit":"hold"`)).got(202, "").into(&held)
	d.status.Store(http.StatusInternalServerError)
	d.ask("POST", "/endpoints/hook/test", "").got(202, "")
	<-d.heard
	var buried console.Deliveries
	d.until("one is given up", func() bool {
		d.json("/api/deliveries?state=buried", &buried)
		return len(buried.Items) == 1
	})
	d.status.Store(http.StatusOK)
	now := time.Now()
	for i := range 40 {
		d.history.Push("shop", "subscribe_msg_popup_event", "accepted", now.Add(-time.Duration(i)*time.Minute))
	}
	const password = "a password of its own"
	pages := console.New(console.Options{Relay: d.relay, Version: "test", History: d.history, Audit: d.audited,
		Ready: func(context.Context) []Check { return []Check{{Name: "redis", OK: true, Detail: "1 ms"}} },
		Fault: func(path string, err error) { t.Errorf("%s: %v", path, err) }})
	door := httptest.NewServer(Admin(AdminOptions{Console: pages, Audit: d.audit,
		Users: []AdminUser{{Name: "ann", Password: password}, {Name: "vic", Password: password, Viewer: true}}}))
	t.Cleanup(door.Close)
	return d, door.URL, []string{"/", "/?range=day", "/messages", "/messages?state=held&app=shop", "/messages/" + sent.ID, "/messages/" + held.ID, "/deliveries",
		"/deliveries?endpoint=orders/hook&state=buried&count=1", "/deliveries/" + buried.Items[0].ID, "/endpoints", "/endpoints/orders/hook",
		"/users", "/users?app=shop&openid=" + openid, "/apps", "/apps/shop", "/errcodes?q=token", "/audit"}
}

// Each page in a real browser, in both languages and two widths: no error, nothing wider than the screen, no serious fault of
// accessibility that can be counted here. CONSOLE_SHOTS names a folder for pictures.
func TestConsoleInABrowser(t *testing.T) {
	browser(t)
	d, base, paths := browserWorld(t)
	b := newTab(t, base, "ann")
	for _, width := range []int64{1280, 390} {
		b.run(chromedp.EmulateViewport(width, 900))
		for _, lang := range []string{"en", "zh"} {
			b.open("/audit?lang=" + lang)
			for i, path := range paths {
				where := fmt.Sprintf("%s %s %d", path, lang, width)
				b.open(path)
				if i < 2 {
					b.wait(`document.querySelectorAll("#plots canvas").length === 4`)
				}
				if got := b.eval(`document.documentElement.lang`); !strings.HasPrefix(got, lang) {
					t.Errorf("%s is in %s", where, got)
				}
				if wide := b.eval(tooWide); wide != "" {
					t.Errorf("%s is wider than the screen: %s", where, wide)
				}
				if faults := b.eval(faultsOfAccess); faults != "" {
					t.Errorf("%s: %s", where, faults)
				}
				if folder := os.Getenv("CONSOLE_SHOTS"); folder != "" {
					var shot []byte
					b.run(chromedp.FullScreenshot(&shot, 100))
					if err := os.WriteFile(filepath.Join(folder, fmt.Sprintf("%02d-%s-%d.png", i, lang, width)), shot, 0o600); err != nil {
						t.Fatal(err)
					}
				}
				b.clean(where)
			}
		}
	}
	b.run(chromedp.EmulateViewport(1280, 900))
	b.open("/audit?lang=en")
	actInABrowser(t, d, b, paths)
}

const tooWide = `(() => { const w = document.documentElement.clientWidth; if (document.documentElement.scrollWidth <= w) return "";
  return [...document.querySelectorAll("body *")].filter(e => e.getBoundingClientRect().right > w + 1 && !e.closest("nav,.scroll,pre")).slice(0, 3).map(e => e.tagName + "." + e.className + " " + e.textContent.slice(0, 40)).join("; ") || "something" })()`

// faultsOfAccess finds fields without a label, buttons and links without a name, ids given twice, and more than one h1.
const faultsOfAccess = `(() => { const out = [], ids = {};
  for (const e of document.querySelectorAll("[id]")) { if (ids[e.id]) out.push("id twice: " + e.id); ids[e.id] = 1; }
  for (const e of document.querySelectorAll("input:not([type=hidden]),select")) if (!e.labels || !e.labels.length) out.push("no label: " + e.name);
  for (const e of document.querySelectorAll("a,button,summary")) if (!e.textContent.trim() && !e.ariaLabel) out.push("no name: " + e.outerHTML.slice(0, 60));
  if (document.querySelectorAll("h1").length !== 1) out.push("h1: " + document.querySelectorAll("h1").length);
  if (!document.querySelector("main") || !document.title) out.push("no main or title");
  return out.join("; ") })()`

// actInABrowser does one thing of each kind, as an operator would.
func actInABrowser(t *testing.T, d *consoleWorld, b *tab, paths []string) {
	held, buried := paths[5], paths[8]
	// the plots hold what was counted; the live tail goes on, and pauses
	b.open("/")
	before := b.eval(`document.querySelector("#tail li").dataset.number`)
	d.history.Push("shop", "the_newest", "accepted", time.Now())
	b.wait(`document.querySelector("#tail").textContent.includes("the_newest")`)
	if b.eval(`document.querySelector("#tail li").dataset.number`) == before {
		t.Error("the newest is not on top")
	}
	b.click("#pause", `document.querySelector("#pause").getAttribute("aria-pressed") === "true"`)
	// local time, and back
	b.open("/messages?zone=local")
	b.wait(`document.documentElement.dataset.zone === "local"`)
	b.open("/messages?zone=beijing")
	// a message is cancelled, behind a question
	b.open(held)
	if !strings.Contains(b.eval(`document.querySelector("#waits").textContent`), "accepts again") {
		t.Error("it does not say why it waits")
	}
	b.click("button.danger", `document.querySelector("#state")?.dataset.state === "cancelled" && !!document.querySelector("[role=status]")`)
	// a delivery is replayed
	b.open(buried)
	b.click("#replay", `!!document.querySelector("[role=status]")`)
	<-d.heard
	b.wait(`fetch(location.href).then(r => r.text()).then(s => s.includes('data-state="delivered"'))`)
	// all that match are replayed: counted, confirmed, with progress
	b.open("/deliveries?endpoint=orders/hook&state=delivered")
	b.click("#replay-all", `!!document.querySelector("#confirm")`)
	if got := b.eval(`document.querySelector("#matched").textContent`); got != "1" {
		t.Errorf("%s match", got)
	}
	b.click("#start-replay", `document.querySelector("#state")?.dataset.state === "done"`)
	<-d.heard
	// an endpoint is disabled, tested and enabled
	b.open("/endpoints/orders/hook")
	b.click("#disable", `document.querySelector("#state")?.dataset.state === "disabled"`)
	b.click("#enable", `document.querySelector("#state")?.dataset.state === "healthy"`)
	b.click("#test", `location.pathname.startsWith("/deliveries/")`)
	<-d.heard
	// one that was made over the API has its secret rotated
	d.ask("PUT", "/endpoints/made", `{"url":"`+d.rules.Partners["orders"].Endpoints[0].URL+`","events":["message.*"]}`).got(201, "")
	b.open("/endpoints/orders/made")
	b.click("#rotate", `document.querySelector("#secret pre")?.textContent.startsWith("whsec_")`)
	b.open("/endpoints/orders/made")
	if b.eval(`String(!!document.querySelector("#secret"))`) != "false" {
		t.Error("the secret is shown twice")
	}
	// it all stands in the audit log
	b.open("/audit")
	text := b.eval(`document.querySelector("main").textContent`)
	for _, want := range []string{"ann", "/cancel", "/replay", "/replays", "/disable", "/enable", "/test", "/rotate"} {
		if !strings.Contains(text, want) {
			t.Errorf("the audit log does not have %s", want)
		}
	}
	// the keyboard: the first stop leads past the menu
	b.run(chromedp.KeyEvent("\t"))
	if got := b.eval(`document.activeElement.getAttribute("href")`); got != "#main" {
		t.Errorf("the first stop is %q", got)
	}
	b.clean("while acting")
}

// A viewer is offered nothing to change, and is refused what it asks for all the same.
func TestConsoleViewerInABrowser(t *testing.T) {
	browser(t)
	d, base, paths := browserWorld(t)
	b := newTab(t, base, "vic")
	for _, path := range paths {
		b.open(path)
		if b.eval(`String(document.querySelectorAll("form[method=post]").length)`) != "0" {
			t.Errorf("%s offers a viewer a change", path)
		}
	}
	b.clean("looking")
	b.open("/endpoints/orders/hook")
	var status int
	b.run(chromedp.Evaluate(`fetch("/api/endpoints/orders/hook/disable", {method: "POST", headers: {"content-type": "application/json"}, body: "{}"}).then(r => r.status)`, &status,
		func(p *runtime.EvaluateParams) *runtime.EvaluateParams { return p.WithAwaitPromise(true) }))
	if status != http.StatusForbidden {
		t.Errorf("a viewer's change: %d", status)
	}
	if e, err := d.relay.Endpoint(t.Context(), "orders", "hook"); err != nil || e.State != "healthy" {
		t.Errorf("%+v %v", e, err)
	}
}
