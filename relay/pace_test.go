package relay

import (
	"testing"
	"time"
)

func TestPaceLearnsFromRefusalsAndRecovers(t *testing.T) {
	var p paces
	at := time.Date(2026, 1, 1, 12, 0, 10, 0, time.UTC)
	for range 100 {
		if d := p.admit("shop", at); d != 0 {
			t.Fatal("an app nobody refused is slowed")
		}
	}
	p.refused("shop", at)
	if d := p.admit("shop", at); d < 50*time.Second || d > 52*time.Second {
		t.Fatalf("after a refusal: wait %v, want the rest of the minute", d)
	}
	if d := p.admit("other", at); d != 0 {
		t.Fatal("one app's refusal slows another")
	}
	sent := func(minute int) (n int) {
		at := at.Add(time.Duration(minute) * time.Minute)
		for p.admit("shop", at) == 0 {
			n++
		}
		return n
	}
	if n := sent(1); n != 88 {
		t.Errorf("the minute after takes %d, want 88: four fifths of 100, and a tenth more", n)
	}
	if n := sent(2); n <= 88 || n > 100 {
		t.Errorf("the next takes %d, want some more", n)
	}
}
