package ledger

import (
	"errors"
	"slices"
	"strconv"
	"strings"
	"time"
)

// NoCredit is the reply of a refused Reserve; TooSoon that of a rate-limited subscription within its period.
const (
	NoCredit = "no_credit"
	TooSoon  = "too_soon"
)

// ParseRefusal reads the reply of a refused Reserve or TakeAllowance: NoCredit, TooSoon or NoAllowance, and how long it
// will be too soon.
func ParseRefusal(s string) (reason string, wait time.Duration) {
	reason, ms, _ := strings.Cut(s, " ")
	n, _ := strconv.ParseInt(ms, 10, 64) // "" = 0: the others have none
	return reason, time.Duration(n) * time.Millisecond
}

// ErrReply says that a text is not the reply of an operation that was done.
var ErrReply = errors.New("ledger: not the reply of an operation")

// Reply is what one operation answered.
type Reply struct {
	Delta             int    // change of the balance, Credits + Reserved: +1 a grant, -1 a spend, -n a closing
	Credits, Reserved int    // after the operation
	Status            string // accepted rejected cancelled unknown
	Kind              string
	Changed           bool   // the operation changed credits or status; false when it only proved, noted or repeated something
	Cause             string // the word the statement uses; "" when nothing was booked
	LongTerm          bool   // the subscription is open: messages need no credit
}

// ParseReply reads the reply of any operation but Forget.
func ParseReply(s string) (Reply, error) {
	var n [7]int
	f := strings.Split(s, " ")
	if len(f) != len(n) {
		return Reply{}, ErrReply
	}
	for i := range n {
		v, err := strconv.Atoi(f[i])
		if err != nil {
			return Reply{}, ErrReply
		}
		n[i] = v
	}
	if n[3] < 0 || n[3] >= len(statuses) || n[4] < 0 || n[4] >= len(kinds) || n[6] < 0 || n[6] >= len(causes) {
		return Reply{}, ErrReply
	}
	return Reply{Delta: n[0], Credits: n[1], Reserved: n[2], Status: statuses[n[3]], Kind: string(kinds[n[4]]), Changed: n[5] == 1,
		Cause: causes[n[6]], LongTerm: open(n[4], n[3])}, nil
}

// After is the statement as it stood right after the operation that answered rep, taken from one that was read later:
// what has moved since is not in it. at is the time of the operation as its record has it; when it has lost its place
// among the last movements, it stands alone.
func (st Statement) After(rep Reply, at time.Time) Statement {
	st.Credits, st.Reserved, st.Status, st.Kind, st.LongTerm = rep.Credits, rep.Reserved, rep.Status, Kind(rep.Kind), rep.LongTerm
	st.Unproven = min(st.Unproven, st.Credits)
	own := Movement{At: at.Truncate(time.Second), Cause: rep.Cause, Delta: rep.Delta, Balance: rep.Credits + rep.Reserved}
	found := -1
	for i, m := range st.History {
		same := m.At.Equal(own.At)
		if m.At = own.At; m == own {
			if found = i; same {
				break
			}
		}
	}
	st.History = slices.Clone(st.History[:found+1])
	if found < 0 {
		st.History = []Movement{own}
	}
	st.UpdatedAt = time.Time{}
	for _, m := range st.History {
		if m.At.After(st.UpdatedAt) {
			st.UpdatedAt = m.At
		}
	}
	return st
}
