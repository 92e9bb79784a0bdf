package queue

import (
	"slices"
	"strings"
	"sync"
	"testing"
)

func TestIDs(t *testing.T) {
	q := &Queue{o: Options{Shards: 64}}
	for shard := range 64 {
		for _, id := range []string{q.NewID("msg", shard), q.NewID("msg_", shard), q.IDFor("msg", shard, "seed"), q.NewID("a_b", shard)} {
			if n, err := ShardOf(id); n != shard || err != nil {
				t.Errorf("%s: %d, %v", id, n, err)
			}
			if strings.ContainsAny(id, ". \n:/") {
				t.Errorf("%s", id)
			}
		}
	}
	if a, b := q.IDFor("msg", 1, "seed"), q.IDFor("msg_", 1, "seed"); a != b {
		t.Errorf("%s, %s", a, b)
	}
	for _, other := range []string{q.IDFor("msg", 2, "seed"), q.IDFor("evt", 1, "seed"), q.IDFor("msg", 1, "seed2")} {
		if other == q.IDFor("msg", 1, "seed") {
			t.Error("two seeds, one id")
		}
	}
	for i := range 1000 {
		if id := q.NewID("a", i%64); !minted(id) {
			t.Errorf("%s is new", id)
		}
		if id := q.IDFor("a", i%64, strings.Repeat("x", i)); minted(id) {
			t.Errorf("%s is not new", id)
		}
	}
	good := q.NewID("msg", 1)
	for _, bad := range []string{"", "msg", "msg_", "_" + good[4:], good[1:][:5], good + "A", good[:len(good)-1], "msg-" + good[4:], "msg_6" + good[5:],
		"msg_64" + good[6:], "msg_x1" + good[6:], good[:10] + "." + good[11:], good[:10] + "\n" + good[11:], good[:10] + "a" + good[11:], "m.g" + good[3:]} {
		if n, err := ShardOf(bad); err != ErrID && bad != "msg_6"+good[5:] {
			t.Errorf("%q: %d, %v", bad, n, err)
		}
	}
}

func TestNewIDsSortByTheOrderTheyWereMade(t *testing.T) {
	q := &Queue{o: Options{Shards: 16}}
	var made []string
	for range 10000 {
		made = append(made, q.NewID("j", 3))
	}
	if !slices.IsSorted(made) {
		t.Error("not sorted")
	}
	var mu sync.Mutex
	seen := map[string]bool{}
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 5000 {
				id := q.NewID("j", 3)
				mu.Lock()
				if seen[id] {
					t.Errorf("%s twice", id)
				}
				seen[id] = true
				mu.Unlock()
			}
		})
	}
	wg.Wait()
}

func TestShardsAreEvenAndStay(t *testing.T) {
	q := &Queue{o: Options{Shards: 16}}
	count := make([]int, 16)
	for i := range 16000 {
		count[q.Shard("shop", "o"+strings.Repeat("x", i%20)+string(rune('a'+i%26))+q.IDFor("o", 0, string(rune(i))))]++
	}
	if lo, hi := slices.Min(count), slices.Max(count); lo < 850 || hi > 1150 {
		t.Errorf("uneven: %v", count)
	}
	// Part of the stored format: a change here loses every user's ledger and messages.
	for _, tc := range []struct {
		app, openid string
		want        int
	}{{"shop", "oABCD", 8}, {"shop", "", 3}, {"", "", 3}, {"a", "b", 11}} {
		if got := q.Shard(tc.app, tc.openid); got != tc.want {
			t.Errorf("Shard(%q, %q) = %d, want %d", tc.app, tc.openid, got, tc.want)
		}
	}
	if q.Shard("ab", "c") == q.Shard("a", "bc") && q.Shard("abc", "d") == q.Shard("ab", "cd") && q.Shard("x", "yz") == q.Shard("xy", "z") {
		t.Error("app and openid run into each other")
	}
	if q.PrefixOf("shop", "oABCD") != Prefix(q.Shard("shop", "oABCD")) || Prefix(7) != "wx:{s07}:" {
		t.Error("prefix")
	}
}

func TestDerive(t *testing.T) {
	q := &Queue{o: Options{Shards: 64}}
	first, second := q.NewID("evt_", 7), q.NewID("evt_", 7)
	a, b := Derive("dlv_", first, "p/e"), Derive("dlv_", first, "p/f")
	if a == b || a != Derive("dlv_", first, "p/e") || a == Derive("dlv_", second, "p/e") {
		t.Errorf("%s %s", a, b)
	}
	if n, err := ShardOf(a); err != nil || n != 7 || !minted(a) || !strings.HasPrefix(a, "dlv_07"+first[6:16]) {
		t.Errorf("%s of %s: shard %d, %v", a, first, n, err)
	}
	if got := Derive("dlv_", "evt_", "x"); got != "" {
		t.Errorf("of no id: %q", got)
	}
}
