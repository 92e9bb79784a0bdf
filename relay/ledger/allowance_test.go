package ledger

import (
	"math/rand/v2"
	"strconv"
	"testing"

	"github.com/redis/go-redis/v9"
)

var allowanceScript = redis.NewScript(`
local extension = (function() ` + AllowanceLua + `
end)()
local ok, reply = extension(KEYS[1], ARGV[1], ARGV, 1, #ARGV - 1)
return (ok and '1' or '0') .. reply`)

// desk is an allowance under test, at a time the test says.
type desk struct {
	t   *testing.T
	rdb redis.UniversalClient
	now int64 // Unix ms, in the far future: the key must not expire by the server's own clock
}

func (d *desk) move(args []string) string {
	d.t.Helper()
	argv := []any{strconv.FormatInt(d.now, 10)}
	for _, a := range args {
		argv = append(argv, a)
	}
	got, err := allowanceScript.Run(d.t.Context(), d.rdb, []string{testPrefix}, argv...).Text()
	if err != nil {
		d.t.Fatal(err)
	}
	return got
}

func (d *desk) want(args []string, want string) {
	d.t.Helper()
	if got := d.move(args); got != want {
		d.t.Fatalf("%q: %s, want %s", args, got, want)
	}
}

const deskBegin = 4_000_000_000_000

// Of two triggers the larger count and the later end hold; they do not add up.
func TestAllowanceIsMaxNotSum(t *testing.T) {
	eachRedis(t, func(t *testing.T, rdb redis.UniversalClient) {
		d := &desk{t, rdb, deskBegin}
		enter, say := GrantAllowance("shop", "ann", TriggerEnter, 0), GrantAllowance("shop", "ann", TriggerMessage, 0)
		d.want(TakeAllowance("shop", "ann", "m0", false), "0no_allowance")
		d.want(enter, "12")
		d.want(enter, "12")
		d.want(say, "15")
		d.want(enter, "15")
		for i := range 4 {
			d.want(TakeAllowance("shop", "ann", "m"+strconv.Itoa(i), false), "1"+strconv.Itoa(4-i))
		}
		d.want(TakeAllowance("shop", "ann", "m3", false), "11") // the same message again
		d.want(enter, "12")
		d.want(TakeAllowance("shop", "ann", "m4", false), "11")
		d.want(TakeAllowance("shop", "ann", "m5", false), "10")
		d.want(TakeAllowance("shop", "ann", "m6", false), "0no_allowance")
		d.want(TakeAllowance("shop", "ann", "m6", true), "10")
		d.want(ReturnAllowance("shop", "ann", "m6"), "10") // it took none
		d.want(ReturnAllowance("shop", "ann", "m5"), "11")
		d.want(ReturnAllowance("shop", "ann", "m5"), "11")
		d.want(UseAllowance("shop", "ann", "m4"), "11")
		d.want(ReturnAllowance("shop", "ann", "m4"), "11") // it was used
		d.want(say, "15")
		d.want(ReturnAllowance("shop", "ann", "m3"), "15") // never more than the trigger allows
		d.now += TriggerMessage.For.Milliseconds()
		d.want(TakeAllowance("shop", "ann", "m7", false), "0no_allowance")
	})
}

// A trigger counts from when it happened, and not at all when its time is over; WeChat's word ends it.
func TestAllowanceEnds(t *testing.T) {
	eachRedis(t, func(t *testing.T, rdb redis.UniversalClient) {
		d := &desk{t, rdb, deskBegin}
		d.want(GrantAllowance("shop", "ann", TriggerEnter, deskBegin/1000-30), "12")
		d.now += 29_999
		d.want(TakeAllowance("shop", "ann", "m1", false), "11")
		d.now++
		d.want(TakeAllowance("shop", "ann", "m2", false), "0no_allowance")
		d.want(GrantAllowance("shop", "ann", TriggerEnter, deskBegin/1000-30), "10")
		d.want(GrantAllowance("shop", "ann", TriggerMessage, d.now/1000+60), "15")
		d.want(ReturnAllowance("shop", "ann", "m1"), "15") // of the trigger before
		d.want(TakeAllowance("shop", "ann", "m3", false), "14")
		d.want(EndAllowance("shop", "ann"), "10")
		d.want(TakeAllowance("shop", "ann", "m4", false), "0no_allowance")
		d.want(ReturnAllowance("shop", "ann", "m3"), "10")
	})
}

// Whatever happens in whatever order: never below zero, never above what a trigger allows, a message never takes two.
func TestAllowanceStaysWithinBounds(t *testing.T) {
	eachRedis(t, func(t *testing.T, rdb redis.UniversalClient) {
		rng := rand.New(rand.NewPCG(1, 2))
		d := &desk{t, rdb, deskBegin}
		for range 2000 {
			id := "m" + strconv.Itoa(rng.IntN(8))
			var got string
			switch rng.IntN(7) {
			case 0:
				got = d.move(GrantAllowance("shop", "ann", TriggerMessage, 0))
			case 1:
				got = d.move(GrantAllowance("shop", "ann", TriggerEnter, 0))
			case 2, 3:
				got = d.move(TakeAllowance("shop", "ann", id, rng.IntN(2) == 0))
			case 4:
				got = d.move(ReturnAllowance("shop", "ann", id))
			case 5:
				got = d.move(UseAllowance("shop", "ann", id))
			default:
				got = d.move(EndAllowance("shop", "ann"))
			}
			d.now += rng.Int64N(40_000)
			if got == "0no_allowance" {
				continue
			}
			if n, err := strconv.Atoi(got[1:]); err != nil || n < 0 || n > 5 {
				t.Fatalf("left: %s", got)
			}
		}
	})
}
