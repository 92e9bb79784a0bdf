package app_test

import (
	"fmt"
	"math/rand/v2"
	"regexp"
	"testing"
	"time"

	"github.com/wxrelay/wxrelay/cmd/wxsim/wechatsim"
)

// unbounded are the keys that may live without an end, each with what bounds it.
var unbounded = map[string]*regexp.Regexp{
	"places of work: empty when nothing waits": regexp.MustCompile(`^wx:\{s\d+\}:(q:|g:|gs$|h$|z$|w$|u$|y$|s:|k:[^h])`),
	"lanes that rest":                          regexp.MustCompile(`^wx:\{s\d+\}:p$`),
	"lines of users, and a shard's templates":  regexp.MustCompile(`^wx:\{s\d+\}:(l:|lt:)`),
	"who is who, and bindings":                 regexp.MustCompile(`^wx:\{b:[A-Za-z0-9_-]{22}\}:[iuon]$`),
	"the number of shards":                     regexp.MustCompile(`^wx:\{?[a-z]*\}?:?(shards|meta|queue)`),
}

// After days of everything at random, each key in Redis has an end, or is one of the few kinds that something else bounds. A job
// without an end must be found in a lane, a park or a hand; when nothing is in one any more there is none.
func TestEveryKeyIsBounded(t *testing.T) {
	t.Parallel()
	const longest = 420 * 24 * time.Hour // a year of waiting, retention, and a margin
	w := newWorld(t, wish{})
	rnd := rand.New(rand.NewPCG(11, 7))
	users := []string{w.sim.User("shop", "ann"), w.sim.User("shop", "bob"), w.sim.User("shop", "eve")}
	for step := range 60 {
		who := users[rnd.IntN(len(users))]
		switch rnd.IntN(8) {
		case 0, 1:
			w.accept(who, tOrder)
		case 2:
			if rnd.IntN(2) == 0 {
				w.sim.Force(wechatsim.Forced{Mood: wechatsim.Cut, Path: "subscribe/send"})
			}
			w.client.Do(w.ctx, "POST", "messages", order(who, map[string]any{"no_credit": "try"}))
		case 3:
			w.client.Do(w.ctx, "POST", "messages", order(who, map[string]any{"no_credit": "hold"}))
		case 4:
			w.client.Do(w.ctx, "PUT", fmt.Sprintf("bindings/shop/u-%d", rnd.IntN(3)), map[string]any{"openid": who})
		case 5:
			w.client.Do(w.ctx, "DELETE", fmt.Sprintf("bindings/shop/u-%d", rnd.IntN(3)), nil)
		case 6:
			session := w.login(who)
			w.ask("POST", "phone", session, map[string]string{"code": w.sim.PhoneCode(who)})
			w.ask("POST", "form-ids", session, map[string]string{"form_id": fmt.Sprintf("form%028d", step)})
		case 7:
			w.later(time.Duration(rnd.IntN(20)) * time.Hour)
		}
	}
	w.later(30 * 24 * time.Hour)
	waiting, job := regexp.MustCompile(`^wx:\{s\d+\}:(q:|w$)`), regexp.MustCompile(`^wx:\{s\d+\}:j:`)
	done := func() bool {
		for _, key := range w.redis.Keys() {
			if waiting.MatchString(key) || job.MatchString(key) && w.redis.TTL(key) == 0 { // one without an end is in a worker's hand
				return false
			}
		}
		return true
	}
	if err := w.overRests(done); err != nil { // what had failed once more by then waits a little longer
		t.Errorf("something still waits a month later: %q", w.redis.Keys())
	}
	for _, key := range w.redis.Keys() {
		ttl, known := w.redis.TTL(key), false
		if ttl > longest {
			t.Errorf("%s lives %v", key, ttl)
		}
		if ttl > 0 {
			continue
		}
		for _, form := range unbounded {
			known = known || form.MatchString(key)
		}
		if !known {
			t.Errorf("%s has no end", key)
		}
	}
}
