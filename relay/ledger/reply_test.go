package ledger

import (
	"testing"
	"time"
)

// A statement read late is cut back to a movement: by its time where it is known, else to the last one like it; a
// movement that has left the statement stands alone.
func TestAfter(t *testing.T) {
	at := func(s int64) time.Time { return time.Unix(1_800_000_000+s, 0) }
	st := Statement{Credits: 1, Status: "accepted", UpdatedAt: at(3), History: []Movement{
		{at(1), "popup_accept", 1, 1}, {at(2), "sent", -1, 0}, {at(3), "popup_accept", 1, 1}, {at(4), "change_reject", -1, 0}}}
	rep := Reply{Delta: 1, Credits: 1, Status: "accepted", Kind: string(OneTime), Changed: true, Cause: "popup_accept"}
	for name, c := range map[string]struct {
		rep     Reply
		at      time.Time
		entries int
		updated time.Time
	}{
		"the first accept":  {rep, at(1), 1, at(1)},
		"the second":        {rep, at(3).Add(900 * time.Millisecond), 3, at(3)},
		"at another time":   {rep, at(9), 3, at(3)},
		"one that has left": {Reply{Delta: 1, Credits: 7, Cause: "popup_accept"}, at(0), 1, at(0)},
	} {
		got := st.After(c.rep, c.at)
		if last := got.History[len(got.History)-1]; len(got.History) != c.entries || !got.UpdatedAt.Equal(c.updated) ||
			got.Credits != c.rep.Credits || last.Balance != c.rep.Credits || last.Cause != c.rep.Cause {
			t.Errorf("%s: %+v", name, got)
		}
	}
	if len(st.History) != 4 || st.History[0].At != at(1) {
		t.Errorf("the statement itself was changed: %+v", st)
	}
}
