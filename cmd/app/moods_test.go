package app_test

import (
	"regexp"
	"strconv"
	"testing"

	"github.com/wxrelay/wxrelay/cmd/wxsim/wechatsim"
	"github.com/wxrelay/wxrelay/scripts/slow"
)

// tempers are the ways of the platform that a journey must not notice: none changes what becomes of a message. Those that do
// (no answer, -1, quotas) are the random days'.
var tempers = map[string]wechatsim.Moods{
	"pushes": {wechatsim.Duplicate: 0.3, wechatsim.Reorder: 0.2, wechatsim.SameSecond: 0.25, wechatsim.SentFirst: 0.3},
	"calls":  {wechatsim.TokenDies: 0.1, wechatsim.Concurrent: 0.15, wechatsim.Slow: 0.1},
}

// journeys are told again in each temper. Those that count WeChat's calls, or how soon something happens, are not among them.
var journeys = map[string]func(*testing.T){
	"tap to delivered":       TestFromTapToDelivered,
	"a push twice":           TestAPushTwiceIsOneGrant,
	"two taps in one second": TestTwoTapsInOneSecondAreTwoGrants,
	"no answer":              TestNoAnswerIsUnknownUntilTheReport,
	"no credit":              TestNoCreditIsRefusedAtOnce,
	"43101":                  TestRefusedByWeChatCorrectsTheLedger,
	"held":                   TestHeldMessagesLeaveOnePerAccept,
	"held again":             TestHeldAgainWhenWeChatRefuses,
	"one tap, one grant":     TestOneTapIsOneGrant,
	"one code":               TestLoginTwiceWithOneCode,
	"one webhook-id":         TestSendTwiceUnderOneID,
	"restart":                TestARestartLosesNothing,
	"Redis away":             TestRedisAwayLosesNothing,
	"send_at":                TestSendAt,
	"report of failure":      TestReportOfFailure,
	"an opened chat":         TestAnOpenedChatAllowsTwo,
	"the user's next word":   TestHeldForTheUsersNextWord,
	"official account":       TestOfficialAccountByUnionID,
	"chain to the account":   TestAChainEndsAtTheOfficialAccount,
}

func TestJourneysInEveryTemper(t *testing.T) {
	t.Parallel()
	seeds := 1
	if slow.On() {
		seeds = 2
	}
	for name := range tempers {
		for seed := range seeds {
			t.Run(name+"-"+strconv.Itoa(seed+1), func(t *testing.T) {
				t.Parallel()
				for journey, tell := range journeys {
					t.Run(journey, tell)
				}
			})
		}
	}
}

// temper is the name of the temper that a world of this test is to have; "" is calm. A journey is a test like any other: it
// learns by its name that it is told again.
var temperForm = regexp.MustCompile(`^TestJourneysInEveryTemper/([a-z]+)-(\d+)/`)

func temper(t *testing.T) string {
	if m := temperForm.FindStringSubmatch(t.Name()); m != nil {
		return m[1]
	}
	return ""
}

func temperOf(t *testing.T, seed uint64) (uint64, bool) {
	m := temperForm.FindStringSubmatch(t.Name())
	if m == nil {
		return seed, true
	}
	n, err := strconv.ParseUint(m[2], 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	return seed + n, false
}
