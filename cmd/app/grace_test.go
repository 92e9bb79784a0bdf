package app

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/wxrelay/wxrelay/scripts/slow"
)

// TestPatienceFitsIntoTheGrace: each part ends after the one before and before the grace does, however small that is.
func TestPatienceFitsIntoTheGrace(t *testing.T) {
	for grace, want := range map[time.Duration]patience{
		20 * time.Second:       {loops: 19500 * time.Millisecond, drain: 19750 * time.Millisecond, leave: 19875 * time.Millisecond},
		time.Second:            {loops: 750 * time.Millisecond, drain: 875 * time.Millisecond, leave: 937500 * time.Microsecond},
		200 * time.Millisecond: {loops: 150 * time.Millisecond, drain: 175 * time.Millisecond, leave: 187500 * time.Microsecond},
		time.Nanosecond:        {loops: 1, drain: 1, leave: 1},
		0:                      {},
	} {
		if got := patienceOf(grace); got != want {
			t.Errorf("%s: %+v, want %+v", grace, got, want)
		}
	}
}

// TestStopFitsIntoTheGraceWithoutRedis: what became of a delivery cannot be written down while Redis is away, and the queue
// tries to the end of its own time; the whole stop is over within shutdown_grace all the same.
func TestStopFitsIntoTheGraceWithoutRedis(t *testing.T) {
	n := newLine(t)
	n.mend()
	w := newWorld(t, n.url())
	began, finish := make(chan struct{}, 16), make(chan struct{})
	w.answer = func(rw http.ResponseWriter, _ *http.Request) {
		began <- struct{}{}
		<-finish
		rw.WriteHeader(http.StatusNoContent)
	}
	const grace = 2 * time.Second
	c := parse(t, strings.Replace(w.yaml(), "shutdown_grace: 5s", fmt.Sprintf("shutdown_grace: %s", grace), 1))
	a, err := Start(t.Context(), c, Options{Stderr: w.log})
	if err != nil {
		t.Fatal(err)
	}
	if status := push(t, c, a.PublicAddr(), testUser); status != http.StatusOK {
		t.Fatalf("push: %d", status)
	}
	<-began
	n.cut()
	close(finish)
	start := time.Now()
	if err := a.Close(context.Background()); err != nil {
		t.Error(err)
	}
	slow.Within(t, start, grace)
	if took := time.Since(start); took < grace/2 {
		t.Errorf("took only %s: nothing was in hand, and nothing is shown", took)
	}
}
