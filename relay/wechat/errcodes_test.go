package wechat

import (
	"regexp"
	"strings"
	"testing"
	"unicode"
)

// reacts lists every code the protocol reference names (sections 5.2, 5.4, 5.5, 6, 7.3, 7.4, 8, 9.3-9.5, 10, 11, 12)
// under the reaction it asks for. Written from the reference, not from the table.
var reacts = map[Reaction][]int{
	ReactionNone:   {0, 45080, 45081},
	ReactionRetry:  {-1, 200001, 20001, 85431},
	ReactionToken:  {40001, 40014, 42001},
	ReactionBanned: {43107},
	ReactionConfig: {41001, 41002, 41004, 40002, 40013, 40125, 43002, 48001, 61007, 61003, 48004, 50002, 50004, 50007, 40243, 48006,
		40164, 45035, 61004, 89501, 89503, 89506, 89507, 48017, 61023, 42007, 61024, 43104, 43106, 200011, 200100, 85461, 85462, 40200,
		40230, 40231, 40232, 40233, 40234, 40235, 40236, 40237, 40238, 40239, 40240, 40201, 85107, 89002},
	ReactionPermanent: {40003, 40029, 40163, 40226, 40037, 41030, 47003, 45168, 45002, 40165, 40033, 43004, 43019, 48002, 50005, 47001, 44002,
		40007, 40036, 70000, 45072, 43100, 43102, 43103, 43105, 200002, 20002, 200012, 200013, 200014, 200016, 200017, 200018, 200019, 200020,
		200021, 200022, 40400, 404, 85433, 85434, 85435, 85436, 85438, 85439, 85440, 85441, 85442, 85443, 85448, 76001, 76002, 76003, 76004,
		76021, 76022, 87007, 87008, 87009, 40097, 89300, 40202, 40203},
	ReactionLedger:      {43101, 45015, 45047},
	ReactionQuotaDay:    {45009},
	ReactionQuotaMinute: {45011},
	ReactionSerial:      {43108},
	ReactionFormID:      {41028, 41029},
	ReactionRetired:     {45103, 45109},
	ReactionWait:        {61005, 61006, 85437, 85449},
}

// besides are codes of WeChat's own pages that the reference leaves out: empty texts, wrong types, uploads, rate-limited templates.
var besides = map[Reaction][]int{ReactionPermanent: {40004, 40005, 40006, 40008, 40009, 40038, 41005, 44001, 44004, 45001}}

func TestEveryCodeOfTheReferenceHasItsReaction(t *testing.T) {
	n := 0
	for _, table := range []map[Reaction][]int{reacts, besides} {
		for reaction, codes := range table {
			for _, code := range codes {
				n++
				if row := Lookup(code); row.Reaction != reaction || row.Code != code {
					t.Errorf("%d: reaction %q, want %q", code, row.Reaction, reaction)
				}
			}
		}
	}
	if rows := Errcodes(); len(rows) != n {
		t.Errorf("the table has %d rows, the reference %d codes", len(rows), n)
	}
}

func TestErrcodeRowsAreWhole(t *testing.T) {
	name := regexp.MustCompile(`^[a-z0-9_]+$`)
	names := map[string]int{}
	last := -1 << 31
	for _, row := range Errcodes() {
		if row.Code <= last {
			t.Errorf("%d is out of order", row.Code)
		}
		last = row.Code
		if other, twice := names[row.Name]; twice || !name.MatchString(row.Name) {
			t.Errorf("%d: name %q (also %d)", row.Code, row.Name, other)
		}
		names[row.Name] = row.Code
		if row.Meaning == "" || !han(row.MeaningZH) {
			t.Errorf("%d: meaning %q / %q", row.Code, row.Meaning, row.MeaningZH)
		}
		if row.Code != 0 && (row.Cure == "" || !han(row.CureZH)) {
			t.Errorf("%d: cure %q / %q", row.Code, row.Cure, row.CureZH)
		}
		if row.Cause == "" || !han(row.CauseZH) {
			t.Errorf("%d: cause %q / %q", row.Code, row.Cause, row.CauseZH)
		}
		if en, zh := row.Does(); en == "" || !han(zh) || han(en) {
			t.Errorf("%d: does %q / %q", row.Code, en, zh)
		}
		if han(row.Meaning + row.Cause + row.Cure) {
			t.Errorf("%d: Chinese in the English text", row.Code)
		}
		if !strings.HasPrefix(row.Doc, "https://developers.weixin.qq.com/") {
			t.Errorf("%d: doc %q", row.Code, row.Doc)
		}
	}
}

func han(s string) bool {
	for _, r := range s {
		if unicode.Is(unicode.Han, r) {
			return true
		}
	}
	return false
}

func TestUnknownCodeIsLoud(t *testing.T) {
	row := Lookup(123456789)
	if row.Reaction != ReactionUnknown || row.Code != 123456789 || row.Meaning == "" || !han(row.MeaningZH) || row.Cure == "" {
		t.Errorf("%+v", row)
	}
	if r := (&APIError{Code: 123456789}).Reaction(); r != ReactionUnknown {
		t.Errorf("reaction %q", r)
	}
}

func TestReactionDependsOnWhoAnswered(t *testing.T) {
	for path, want := range map[string]Reaction{
		"/cgi-bin/message/subscribe/send": ReactionToken,
		pathClassic:                       ReactionConfig,
		pathStable:                        ReactionConfig,
		pathLogin:                         ReactionConfig,
	} {
		e := newAPIError(path, 40001, "invalid credential")
		if e.Reaction() != want {
			t.Errorf("%s: %q", path, e.Reaction())
		}
	}
	if cure := newAPIError(pathStable, 40001, "").Cure(); !strings.Contains(cure, "AppSecret") {
		t.Errorf("cure of a wrong secret: %s", cure)
	}
}

func TestMessageParts(t *testing.T) {
	for msg, want := range map[string]struct{ rid, ip string }{
		"invalid ip 1.2.3.4 ipv6 ::ffff:1.2.3.4, not in whitelist rid: 617682e0-01bfdbee-79769285": {"617682e0-01bfdbee-79769285", "1.2.3.4"},
		"invalid ip 2001:db8::7, not in whitelist":                                                 {"", "2001:db8::7"},
		"invalid ip ::ffff:9.8.7.6 ipv6":                                                           {"", "9.8.7.6"},
		"invalid code, rid: 5f3ded7d-00000001-00000002":                                            {"5f3ded7d-00000001-00000002", ""},
		"invalid credential hints: [ req_id: abc ]":                                                {"", ""},
		"invalid ip whatever":                                                                      {"", ""},
		"":                                                                                         {"", ""},
	} {
		e := newAPIError("/p", 40164, msg)
		if e.RID != want.rid || e.IP() != want.ip {
			t.Errorf("%q: rid %q ip %q", msg, e.RID, e.IP())
		}
	}
}
