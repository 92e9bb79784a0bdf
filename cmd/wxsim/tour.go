package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/wxrelay/wxrelay/cmd/wxsim/partnersim"
	"github.com/wxrelay/wxrelay/cmd/wxsim/wechatsim"
)

// tour is one walk through the product. WeChat has its moods meanwhile; what they may cost is a detour, never a step.
type tour struct {
	*box
	*voice
	ctx      context.Context
	template wechatsim.Template
	openid   string
	session  string
	told     map[string]bool // webhook-ids the tour has used up
	message  partnersim.Message
	order    int // of the latest send, told apart by its page
	page     string
	request  string // its webhook-id
	body     map[string]any
	open     int // sends whose outcome nobody knows
}

type step struct {
	title string
	do    func(*tour) error
}

var steps = []step{
	{"Ann opens the mini-program. wx.login gives it a code, the gateway makes a session of it.", (*tour).login},
	{"Ann taps \"allow\" once. WeChat pushes the popup event to the gateway, sealed; the mini-program reports the tap too.", (*tour).accept},
	{"The partner is told, by a signed webhook.", (*tour).toldAccepted},
	{"The partner hands over a message, signed. It does not know an access_token, nor does it need to.", (*tour).send},
	{"WeChat takes it and Ann has it on her phone.", (*tour).delivered},
	{"The partner's network was bad: it asks again under the same webhook-id. Ann must not get it twice.", (*tour).again},
	{"Ann allowed one message and got one. A second one is refused before WeChat is even asked.", (*tour).noCredit},
	{"Ann taps \"reject\".", (*tour).reject},
}

func play(ctx context.Context, b *box, v *voice) error {
	ctx, cancel := context.WithTimeout(ctx, tourLimit)
	defer cancel()
	t := &tour{box: b, voice: v, ctx: ctx, template: b.mini.Templates[0], told: map[string]bool{}, order: firstOrder - 1}
	t.say("\nThe tour\n")
	began := time.Now()
	for i, s := range steps {
		t.say("%2d. %s", i+1, s.title)
		if err := s.do(t); err != nil {
			return fmt.Errorf("step %d (%s) %w", i+1, s.title, err)
		}
	}
	counts := b.sim.Counts()
	t.say("\nAll %d steps hold, in %s. WeChat's moods meanwhile: %s.", len(steps), time.Since(began).Round(time.Millisecond), moods(counts, b))
	return nil
}

// moods that came over this tour, in words.
func moods(counts map[string]int64, b *box) string {
	var had []string
	for _, m := range []struct{ count, words string }{
		{"mood:busy", "%d calls answered -1"}, {"mood:timeout", "%d sends taken and never answered"}, {"mood:token_dies", "%d tokens died early"},
		{"mood:token_storm", "%d good tokens refused"}, {"mood:concurrent", "%d sends called concurrent"}, {"mood:slow", "%d slow answers"},
	} {
		if n := counts[m.count]; n > 0 {
			had = append(had, fmt.Sprintf(m.words, n))
		}
	}
	doubled := 0
	for _, p := range b.sim.Pushes() {
		for _, d := range p.Deliveries {
			if d.Doubled {
				doubled++
			}
		}
	}
	if doubled > 0 {
		had = append(had, fmt.Sprintf("%d pushes doubled", doubled))
	}
	if len(had) == 0 {
		return "none"
	}
	return strings.Join(had, ", ")
}

func (t *tour) fact(format string, a ...any) { t.say("      "+format, a...) }

func (t *tour) detour(format string, a ...any) { t.say("    ~ "+format, a...) }

// mp is the mini-program calling the gateway; into gets the answer of a 2xx.
func (t *tour) mp(method, path string, body, into any) (int, string, error) {
	var rd io.Reader
	if body != nil {
		raw, err := json.Marshal(body)
		if err != nil {
			return 0, "", err
		}
		rd = bytes.NewReader(raw)
	}
	req, err := http.NewRequestWithContext(t.ctx, method, t.public+"/mp/"+appName+"/"+path, rd)
	if err != nil {
		return 0, "", err
	}
	req.Header.Set("Content-Type", "application/json")
	if t.session != "" {
		req.Header.Set("Authorization", "Bearer "+t.session)
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, "", err
	}
	defer res.Body.Close()
	raw, err := io.ReadAll(io.LimitReader(res.Body, 1<<20))
	if err != nil {
		return 0, "", err
	}
	if res.StatusCode/100 == 2 && into != nil {
		if err := json.Unmarshal(raw, into); err != nil {
			return res.StatusCode, string(raw), fmt.Errorf("%s %s: %w", method, path, err)
		}
	}
	return res.StatusCode, string(raw), nil
}

// next waits for an event the tour has not used yet.
func (t *tour) next(kind string, fits func(partnersim.Event) bool) (partnersim.Event, error) {
	e, err := t.partner.Await(t.ctx, func(e partnersim.Event) bool {
		return e.Type == kind && !t.told[e.ID] && (fits == nil || fits(e))
	})
	if err != nil {
		var heard []string
		for _, e := range t.partner.Events() {
			heard = append(heard, e.Type)
		}
		return e, fmt.Errorf("the partner was not told %s (%w); it was told %s", kind, err, strings.Join(heard, ", "))
	}
	t.told[e.ID] = true
	return e, nil
}
