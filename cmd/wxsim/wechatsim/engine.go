package wechatsim

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"hash/maphash"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// The push engine: one goroutine per push carries it through its deliveries. Pushes of one user keep their order up to
// the first delivery of each, unless a mood says otherwise.

// markFail is 自动屏蔽: too many failures in a row and WeChat stops pushing for a minute.
// https://developers.weixin.qq.com/doc/service/guide/dev/api/warn_guide.md
type markFail struct {
	mu       sync.Mutex
	failures int
	until    time.Time
}

const markFailFor = time.Minute

func (m *markFail) silent(now time.Time) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return now.Before(m.until)
}

func (m *markFail) note(now time.Time, failed bool, after int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if !failed {
		m.failures = 0
		return
	}
	if m.failures++; after > 0 && m.failures >= after {
		m.failures, m.until = 0, now.Add(markFailFor)
	}
}

// Silenced says whether MarkFail keeps an app from being pushed to.
func (s *Sim) Silenced(app string) bool { return s.mustApp(app).mark.silent(s.memory()) }

func newPushClient(inFlight int) *http.Client {
	t := &http.Transport{MaxIdleConns: 0, MaxIdleConnsPerHost: inFlight, IdleConnTimeout: 90 * time.Second,
		DisableCompression: true}
	return &http.Client{Transport: t, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
}

// push starts a push on its way and returns a channel that is closed after its first delivery.
func (s *Sim) push(a *app, acc *account, h happening) <-chan struct{} {
	conf := a.conf()
	p := &Push{At: s.now(), App: conf.AppID, OpenID: acc.openid, Event: h.name(), Mode: conf.Mode, Format: conf.Format, Result: Pending}
	_, lost := s.pushMood(Lost, h.name(), acc)
	_, same := s.pushMood(SameSecond, h.name(), acc)
	held, reorder := s.pushMood(Reorder, h.name(), acc)

	shape := s.shape(conf.Shape)
	first := make(chan struct{})
	acc.mu.Lock()
	h.stamp = max(p.At.Unix(), acc.lastStamp)
	if same && p.At.Unix()-acc.lastStamp <= 2 {
		h.stamp = acc.lastStamp
	}
	p.Body = acc.unlike(&h, conf.Format, shape)
	before := acc.lastPush
	if reorder {
		before = nil
	} else {
		acc.lastPush = first
	}
	acc.mu.Unlock()

	s.seen.note(func() {
		s.seen.pushed++
		p.N = s.seen.pushed
		s.seen.pushes.add(p, s.seen.keep)
		s.seen.counts["pushes"]++
	})
	switch {
	case lost:
		s.ended(p, Gone)
		close(first)
		return first
	case conf.CallbackURL == "" || s.ctx.Err() != nil:
		s.ended(p, Dropped)
		close(first)
		return first
	}
	wait := time.Duration(0)
	if reorder {
		if wait = held.Delay; wait == 0 {
			wait = time.Duration(1+s.dice.below(50)) * time.Millisecond
		}
	}
	s.flying.Add(1)
	go func() {
		s.carry(a, acc, h, p, wait, before, first)
		s.flying.Add(-1)
		s.seen.poke()
	}()
	return first
}

// unlike renders a body that this account was not pushed before: nobody answers the same popup twice within a second, and
// WeChat's clock does not go back. It moves CreateTime on where that is needed; the caller holds mu.
func (acc *account) unlike(h *happening, f Format, shape Shape) string {
	for {
		if h.stamp > acc.lastStamp {
			acc.lastStamp, acc.stamped = h.stamp, acc.stamped[:0]
		}
		body := h.render(f, shape)
		if sum := maphash.Bytes(bodySeed, body); !slices.Contains(acc.stamped, sum) {
			acc.stamped = append(acc.stamped, sum)
			return string(body)
		}
		h.stamp++
	}
}

var bodySeed = maphash.MakeSeed()

func (s *Sim) shape(sh Shape) Shape {
	if sh == AnyShape {
		return []Shape{Captured, Documented, Wrapped, Pretty}[s.dice.below(4)]
	}
	return sh
}

// carry makes the deliveries of one push.
func (s *Sim) carry(a *app, acc *account, h happening, p *Push, wait time.Duration, before, first chan struct{}) {
	var once sync.Once
	done := func() { once.Do(func() { close(first) }) }
	defer done()
	s.pause(s.ctx, wait)
	if before != nil {
		select {
		case <-before:
		case <-s.ctx.Done():
		}
	}
	for n := 0; n < s.o.PushDeliveries; n++ {
		if n > 0 {
			s.pause(s.ctx, s.o.PushSpacing)
		}
		if s.ctx.Err() != nil || a.mark.silent(s.memory()) {
			s.ended(p, Dropped)
			return
		}
		_, twice := s.pushMood(Duplicate, h.name(), acc)
		var again <-chan Delivery
		if twice && s.dice.below(2) == 0 {
			again = s.double(a, h, p) // both at once
		}
		d, reply := s.deliver(a, h, p)
		a.mark.note(s.memory(), d.Fault != "", s.o.MarkFailAfter)
		s.delivered(p, d, reply)
		if twice && again == nil {
			again = s.double(a, h, p) // one after the other
		}
		if again != nil {
			s.delivered(p, <-again, "")
		}
		done()
		if d.Fault == "" {
			s.heed(a, acc, h, reply)
			s.ended(p, Taken)
			return
		}
	}
	s.ended(p, Failed)
}

// double delivers the same push once more, whatever becomes of it.
func (s *Sim) double(a *app, h happening, p *Push) <-chan Delivery {
	got := make(chan Delivery, 1)
	go func() {
		d, _ := s.deliver(a, h, p)
		d.Doubled = true
		got <- d
	}()
	return got
}

func (s *Sim) ended(p *Push, result string) {
	s.seen.note(func() {
		p.Result = result
		s.seen.counts["push:"+result]++
	})
}

func (s *Sim) delivered(p *Push, d Delivery, reply string) {
	s.seen.note(func() {
		p.Deliveries = append(p.Deliveries, d)
		if reply != "" {
			p.Reply = reply
		}
		s.seen.counts["deliveries"]++
		if d.Fault != "" {
			s.seen.counts["deliveries:failed"]++
		}
	})
}

// deliver makes one POST, signed and encrypted afresh, and judges its answer. The reply is a passive one, opened.
func (s *Sim) deliver(a *app, h happening, p *Push) (d Delivery, reply string) {
	select {
	case a.slots <- struct{}{}:
	case <-s.ctx.Done():
		return Delivery{At: s.now(), Fault: "closed"}, ""
	}
	defer func() { <-a.slots }()
	conf := a.conf()
	target, body, ctype := s.envelope(conf, h, []byte(p.Body))
	d.At = s.now()
	began := time.Now()
	defer func() { d.Took = time.Since(began) }()
	ctx, cancel := context.WithTimeout(s.ctx, s.o.PushTimeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, target, bytes.NewReader(body))
	if err != nil {
		d.Fault = err.Error()
		return d, ""
	}
	req.Header.Set("Content-Type", ctype)
	req.Header.Set("User-Agent", "Mozilla/4.0")
	res, err := s.client.Do(req)
	if err != nil {
		d.Fault = "request: " + err.Error()
		if errors.Is(err, context.DeadlineExceeded) {
			d.Fault = "request timeout"
		}
		return d, ""
	}
	defer res.Body.Close()
	answer, err := io.ReadAll(io.LimitReader(res.Body, 64<<10))
	d.Status, d.Answer = res.StatusCode, string(answer[:min(len(answer), 1024)])
	if err != nil {
		d.Fault = "answer: " + err.Error()
		return d, ""
	}
	reply, err = conf.judge(res.StatusCode, answer)
	if err != nil {
		d.Fault = err.Error()
	}
	return d, reply
}

// envelope gives URL, body and content type of one delivery in the app's mode and format.
func (s *Sim) envelope(conf *App, h happening, plain []byte) (target string, body []byte, ctype string) {
	ts, nonce := strconv.FormatInt(s.now().Unix(), 10), s.dice.digits(10)
	q := url.Values{"signature": {signature(conf.Token, ts, nonce)}, "timestamp": {ts}, "nonce": {nonce}}
	body = plain
	if conf.Mode != Plain {
		key, err := aesKey(conf.EncodingAESKey)
		if err != nil {
			panic(err) // checked when the app was made
		}
		encrypted := encrypt(key, []byte(s.dice.text(16)), plain, conf.AppID)
		q.Set("openid", h.from)
		q.Set("encrypt_type", "aes")
		q.Set("msg_signature", signature(conf.Token, ts, nonce, encrypted))
		body = conf.wrap(plain, h.to, encrypted)
	}
	ctype = "application/json"
	if conf.Format == XML {
		ctype = "text/xml"
	}
	sep := "?"
	if strings.Contains(conf.CallbackURL, "?") {
		sep = "&"
	}
	return conf.CallbackURL + sep + q.Encode(), body, ctype
}

// wrap puts Encrypt into the body: alone with ToUserName when secure, beside the plain fields when compat.
func (conf *App) wrap(plain []byte, to, encrypted string) []byte {
	var b bytes.Buffer
	switch {
	case conf.Format == XML && conf.Mode == Compat:
		b.Write(bytes.TrimSuffix(plain, []byte("</xml>")))
		xmlLeaf(&b, "Encrypt", encrypted)
		b.WriteString("</xml>")
	case conf.Format == XML:
		b.WriteString("<xml>")
		xmlLeaf(&b, "ToUserName", to)
		xmlLeaf(&b, "Encrypt", encrypted)
		b.WriteString("</xml>")
	case conf.Mode == Compat:
		open := bytes.TrimRight(plain, "\n")
		b.Write(open[:len(open)-1])
		b.WriteByte(',')
		jsonLeaf(&b, "Encrypt", encrypted)
		b.WriteByte('}')
	default:
		b.WriteByte('{')
		jsonLeaf(&b, "ToUserName", to)
		b.WriteByte(',')
		jsonLeaf(&b, "Encrypt", encrypted)
		b.WriteByte('}')
	}
	return b.Bytes()
}

var errIllegal = errors.New("illegal response")

// judge says whether WeChat is content with an answer, and opens a passive reply.
func (conf *App) judge(status int, answer []byte) (reply string, err error) {
	if status != http.StatusOK {
		return "", fmt.Errorf("%w: HTTP %d", errIllegal, status)
	}
	if len(answer) == 0 || string(answer) == "success" {
		return "", nil
	}
	encrypted, got, sig, ts, nonce := envelopeOf(answer)
	switch {
	case encrypted == "" && conf.Mode != Secure && (answer[0] == '<' || answer[0] == '{'):
		return string(answer), nil
	case encrypted == "" || conf.Mode == Plain:
		return "", fmt.Errorf("%w: %.60q", errIllegal, answer)
	case !got || !sameText(sig, signature(conf.Token, ts, nonce, encrypted)):
		return "", fmt.Errorf("%w: MsgSignature", errIllegal)
	}
	key, err := aesKey(conf.EncodingAESKey)
	if err != nil {
		return "", err
	}
	msg, appid, err := decrypt(key, encrypted)
	if err != nil {
		return "", fmt.Errorf("%w: %w", errIllegal, err)
	}
	if appid != conf.AppID {
		return "", fmt.Errorf("%w: encrypted for %s", errIllegal, appid)
	}
	return string(msg), nil
}
