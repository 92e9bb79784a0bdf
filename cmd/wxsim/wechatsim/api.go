package wechatsim

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// route is one API path: what it wants before its own checks, and what it does.
type route struct {
	path   string
	method string
	token  bool // access_token is checked
	writes bool // to a person
	paced  bool // takes its time itself, at the point where the call is in flight
	sns    bool // text/plain, comma before rid
	media  bool // multipart or binary
	kind   Kind // "" = both; another app answers 48001
	serve  func(*call) answer
}

// routes is the table of what this platform implements, one family per file.
func routes() map[string]*route {
	table := map[string]*route{}
	for _, family := range [][]route{tokenRoutes(), loginRoutes(), subscribeRoutes(), templateRoutes(), customRoutes(),
		mediaRoutes(), officialRoutes(), legacyRoutes(), quotaRoutes(), networkRoutes()} {
		for i := range family {
			rt := family[i]
			table[rt.method+" "+rt.path] = &rt
		}
	}
	return table
}

// call is one request at the API handler.
type call struct {
	*Sim
	rt    *route
	r     *http.Request
	at    time.Time
	rid   string
	q     url.Values
	body  []byte
	app   *app
	tok   *token
	tell  *Send           // set by routes that write to a person
	delay time.Duration   // how long this call takes
	first <-chan struct{} // closed when an event that must come before the answer was delivered
	lag   time.Duration   // how long after it the answer comes
	later []func()        // what happens after the answer
}

// answer of a route: a body to be written as JSON or raw, or an error.
type answer struct {
	errcode int
	errmsg  string
	hint    bool // the form of 2018: "hint: [x]" instead of a rid
	body    any
	raw     []byte
	ctype   string
}

func fail(code int, text string) answer { return answer{errcode: code, errmsg: text} }

var fine = answer{body: struct {
	Errcode int    `json:"errcode"`
	Errmsg  string `json:"errmsg"`
}{0, "ok"}}

const (
	maxBody      = 1 << 20
	maxMediaBody = 11 << 20
)

// ServeHTTP is the API handler. Errors of the protocol are HTTP 200 with an errcode, as WeChat's are.
func (s *Sim) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	c := &call{Sim: s, r: r, at: s.now(), q: r.URL.Query()}
	c.rid = fmt.Sprintf("%08x-%08x-%08x", c.at.Unix(), uint32(s.dice.bits()), uint32(s.dice.bits()))
	began := time.Now()
	c.rt = s.routes[r.Method+" "+r.URL.Path]
	if c.rt == nil {
		c.rt = s.strange(r)
	}
	limit := int64(maxBody)
	if c.rt.media {
		limit = maxMediaBody
	}
	body, err := io.ReadAll(io.LimitReader(r.Body, limit+1))
	if err != nil || int64(len(body)) > limit {
		w.WriteHeader(http.StatusRequestEntityTooLarge)
		return
	}
	c.body = body
	c.delay = s.o.Latency
	whose := s.whose(c)
	mood := s.callMood(c.rt, whose, c.touser)
	ans, answered := c.live(mood)
	if ans.errcode != 0 && ans.body == nil {
		ans.errmsg = c.words(ans)
	}
	c.record(ans, mood.Mood, answered, time.Since(began))
	if answered {
		c.write(w, ans)
	}
	for _, f := range c.later {
		f()
	}
	if !answered {
		c.silence(mood.Mood, w)
	}
}

// takeTime is the work of the platform.
func (c *call) takeTime() { c.pause(c.r.Context(), c.delay) }

// strange answers a path that is not there, or is there by another method.
func (s *Sim) strange(r *http.Request) *route {
	rt := &route{path: r.URL.Path, sns: strings.HasPrefix(r.URL.Path, "/sns/")}
	rt.serve = func(*call) answer { return fail(40066, "invalid url") }
	if s.routes[http.MethodPost+" "+r.URL.Path] != nil {
		rt.serve = func(*call) answer { return fail(43002, "require POST method") }
	} else if s.routes[http.MethodGet+" "+r.URL.Path] != nil {
		rt.serve = func(*call) answer { return fail(43001, "require GET method") }
	}
	return rt
}

// whose app a call is about, before anything is checked: for moods.
func (s *Sim) whose(c *call) *app {
	if t := s.tokens.get(c.q.Get("access_token")); t != nil {
		return t.app
	}
	if a := s.world.app(c.q.Get("appid")); a != nil {
		return a
	}
	var b struct {
		AppID string `json:"appid"`
	}
	if !c.rt.token && !c.rt.media && json.Unmarshal(c.body, &b) == nil {
		return s.world.app(b.AppID)
	}
	return nil
}

func (c *call) touser() string {
	var b struct {
		ToUser string `json:"touser"`
		OpenID string `json:"openid"`
	}
	if json.Unmarshal(c.body, &b) == nil && b.ToUser != "" {
		return b.ToUser
	}
	return b.OpenID
}

// live carries the call through its mood, the checks every API makes, and its own work.
func (c *call) live(mood Forced) (a answer, answered bool) {
	switch mood.Mood {
	case Busy:
		return fail(-1, "system error"), true
	case TimeoutBefore, CutBefore:
		return fail(-1, ""), false
	case Slow:
		d := mood.Delay
		if d == 0 {
			d = 250 * time.Millisecond
		}
		c.delay += d
	case Concurrent:
		return fail(43108, concurrentText), true
	case DailyQuota:
		return fail(45009, "reach max api daily quota limit"), true
	case MinuteQuota:
		return fail(45011, "api minute-quota reach limit, must slower, retry next minute"), true
	case Refuse:
		return fail(mood.Errcode, mood.Errmsg), true
	case TokenDies, TokenStuck:
		c.tokens.kill(c.q.Get("access_token"), c.memory(), mood.Mood == TokenStuck)
	case TokenStorm:
		if c.rt.token && c.tokens.get(c.q.Get("access_token")) != nil {
			if mood.Times == 0 {
				c.Force(Forced{Mood: TokenStorm, App: c.tokens.get(c.q.Get("access_token")).app.conf().AppID, Times: 2})
			}
			return fail(40001, staleToken), true
		}
	}
	if !c.rt.paced {
		c.takeTime()
	}
	a = c.admit()
	if a.errcode == 0 {
		a = c.rt.serve(c)
	}
	if c.first != nil {
		wait, cancel := context.WithTimeout(c.r.Context(), time.Second)
		select {
		case <-c.first:
		case <-wait.Done():
		}
		cancel()
		c.pause(c.r.Context(), c.lag)
	}
	switch mood.Mood {
	case Timeout, Cut, BadGateway:
		return a, false
	case BusyAccepted:
		return fail(-1, "system error"), true
	}
	return a, true
}

// admit makes the checks that come before an API's own: token, kind of app, quota.
func (c *call) admit() answer {
	if !c.rt.token {
		return answer{}
	}
	t, bad := c.tokens.check(c.q.Get("access_token"), c.memory())
	if bad.errcode != 0 {
		return bad
	}
	c.tok, c.app = t, t.app
	if c.rt.kind != "" && c.app.conf().Kind != c.rt.kind {
		return fail(48001, "api unauthorized")
	}
	if c.app.conf().Kind == OfficialAccount {
		if bad := c.fromListed(); bad.errcode != 0 {
			return bad
		}
	}
	return c.app.quota.spend(c.app.conf(), c.rt.path, c.memory())
}

// fromListed is the IP allow-list.
// https://developers.weixin.qq.com/doc/oplatform/developers/basic_func/ip_whitelist.md
func (c *call) fromListed() answer {
	list := c.app.conf().IPWhitelist
	if len(list) == 0 {
		return answer{}
	}
	host, _, err := net.SplitHostPort(c.r.RemoteAddr)
	if err != nil {
		host = c.r.RemoteAddr
	}
	for _, ip := range list {
		if ip == host {
			return answer{}
		}
	}
	return fail(40164, fmt.Sprintf("invalid ip %s ipv6 ::ffff:%s, not in whitelist", host, host))
}

// words is the errmsg with its rid in the form of the family.
func (c *call) words(a answer) string {
	switch {
	case a.hint:
		return fmt.Sprintf("%s hint: [%s]", a.errmsg, c.rid[9:17])
	case c.rt.sns:
		return a.errmsg + ", rid: " + c.rid
	}
	return a.errmsg + " rid: " + c.rid
}

func (c *call) write(w http.ResponseWriter, a answer) {
	ctype := "application/json; encoding=utf-8"
	if c.rt.sns {
		ctype = "text/plain"
	}
	if a.raw != nil {
		w.Header().Set("Content-Type", a.ctype)
		_, _ = w.Write(a.raw) // the caller went away: nothing to do about it
		return
	}
	body := a.encode()
	w.Header().Set("Content-Type", ctype)
	w.Header().Set("Content-Length", strconv.Itoa(len(body)))
	_, _ = w.Write(body) // as above
	if len(c.later) > 0 {
		_ = http.NewResponseController(w).Flush() // so that the answer is on its way before the event is
	}
}

func (a answer) encode() []byte {
	v := a.body
	if a.errcode != 0 && v == nil {
		v = struct {
			Errcode int    `json:"errcode"`
			Errmsg  string `json:"errmsg"`
		}{a.errcode, a.errmsg}
	}
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		panic(err) // every body is made of strings and numbers
	}
	return bytes.TrimSuffix(b.Bytes(), []byte("\n"))
}

// silence is the end of a call whose caller learns nothing.
func (c *call) silence(m Mood, w http.ResponseWriter) {
	switch m {
	case BadGateway:
		w.Header().Set("Content-Type", "text/html")
		w.WriteHeader(http.StatusBadGateway)
		_, _ = io.WriteString(w, "<html><head><title>502 Bad Gateway</title></head><body>nginx</body></html>") // as in write
		return
	case Timeout, TimeoutBefore:
		c.pause(c.r.Context(), c.o.Hang)
	}
	panic(http.ErrAbortHandler)
}

func (c *call) record(a answer, m Mood, answered bool, took time.Duration) {
	appid := ""
	if c.app != nil {
		appid = c.app.conf().AppID
	}
	got := Call{At: c.at, App: appid, Path: c.rt.path, Errcode: a.errcode, Errmsg: a.errmsg, RID: c.rid, Mood: m, Took: took}
	full := detail{Call: got, client: c.r.RemoteAddr}
	if !c.rt.media && !c.rt.sns && len(c.body) <= 4096 {
		full.body = string(c.body)
	}
	c.seen.note(func() {
		c.seen.calls.add(got, c.seen.keep)
		if !c.rt.sns {
			c.seen.recent.add(full, keepDetails)
		}
		c.seen.counts["calls"]++
		c.seen.counts["call:"+c.rt.path]++
		if a.errcode != 0 {
			c.seen.counts[fmt.Sprintf("errcode:%d", a.errcode)]++
		}
		if m != "" {
			c.seen.counts["mood:"+string(m)]++
		}
		if c.rt.writes && c.tell == nil {
			c.tell = &Send{OpenID: c.touser()}
		}
		if t := c.tell; t != nil {
			t.At, t.App, t.Path, t.Errcode, t.RID, t.Mood, t.Answered = c.at, appid, c.rt.path, a.errcode, c.rid, m, answered
			c.seen.sends.add(*t, c.seen.keep)
		}
	})
}

var (
	errNotJSON  = errors.New("not JSON")
	escapedChar = regexp.MustCompile(`\\u[0-9a-fA-F]{4}`)
)

// read decodes the body as JSON: 44002 empty, 47001 not JSON, 40033 with \u escapes in it.
func (c *call) read(into any) answer {
	if len(bytes.TrimSpace(c.body)) == 0 {
		return fail(44002, "empty post data")
	}
	if escapedChar.Match(c.body) {
		return fail(40033, `invalid charset. please check your request, if include \uxxxx will create fail!`)
	}
	if err := decode(c.body, into); err != nil {
		return fail(47001, "data format error")
	}
	return answer{}
}

func decode(body []byte, into any) error {
	dec := json.NewDecoder(bytes.NewReader(body))
	if err := dec.Decode(into); err != nil {
		return fmt.Errorf("%w: %w", errNotJSON, err)
	}
	if dec.More() {
		return errNotJSON
	}
	return nil
}
