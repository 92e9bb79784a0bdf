package message

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf16"
	"unicode/utf8"
)

// The rules of WeChat for the values of a subscribe message, by the type that a keyword's name begins with.
// https://developers.weixin.qq.com/miniprogram/dev/server/API/mp-message-management/subscribe-message/api_sendmessage
//
// Characters are counted as UTF-16 code units: a Chinese character is 1, an emoji outside the basic plane 2. WeChat does
// not say which unit it counts; this is the one that never lets a value pass that another unit would refuse.

// keywordType is the type of a keyword: thing1 is a thing, character_string2 a character_string; "" is none of
// WeChat's form.
func keywordType(key string) string {
	name := strings.TrimRight(key, "0123456789")
	if name == "" || name == key || strings.Trim(name, "abcdefghijklmnopqrstuvwxyz_") != "" {
		return ""
	}
	if len(name) > 1 {
		name = strings.TrimSuffix(name, "_")
	}
	return name
}

var (
	numberForm = regexp.MustCompile(`^[0-9]+(\.[0-9]+)?$`)
	amountForm = regexp.MustCompile(`^\p{Sc}?[0-9]+(\.[0-9]+)?元?$`)
	carForm    = regexp.MustCompile(`^[A-Za-z0-9\p{Han}]([A-Za-z0-9]*[A-Za-z0-9\p{Han}])?$`)
	clockForm  = regexp.MustCompile(`^([01]?[0-9]|2[0-3]):[0-5][0-9](:[0-5][0-9])?$`)
	// A day: its month in the first group that is there, the day of the month in the second.
	dayForms = []*regexp.Regexp{
		regexp.MustCompile(`^[0-9]{4}年([0-9]{1,2})月(?:([0-9]{1,2})日)?$`),
		regexp.MustCompile(`^([0-9]{1,2})月([0-9]{1,2})日$`),
		regexp.MustCompile(`^[0-9]{4}-([0-9]{1,2})(?:-([0-9]{1,2}))?$`),
		regexp.MustCompile(`^[0-9]{4}/([0-9]{1,2})(?:/([0-9]{1,2}))?$`),
		regexp.MustCompile(`^[0-9]{4}\.([0-9]{1,2})(?:\.([0-9]{1,2}))?$`),
		regexp.MustCompile(`^([0-9]{1,2})[-/.]([0-9]{1,2})$`),
	}
	pageForm = regexp.MustCompile(`^[0-9A-Za-z_\-./]+$`)
)

func isDay(s string) bool {
	for _, form := range dayForms {
		m := form.FindStringSubmatch(s)
		if m == nil {
			continue
		}
		month, _ := strconv.Atoi(m[1])
		day, _ := strconv.Atoi(m[2])
		if month >= 1 && month <= 12 && (m[2] == "" || day >= 1 && day <= 31) {
			return true
		}
	}
	return false
}

// isMoment is a day and a clock with a blank between.
func isMoment(s string) bool {
	day, clock, ok := strings.Cut(s, " ")
	return ok && isDay(day) && clockForm.MatchString(clock)
}

func isLetter(c rune) bool { return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' }
func isDigit(c rune) bool  { return c >= '0' && c <= '9' }
func isSymbol(c rune) bool { return unicode.IsPunct(c) || unicode.IsSymbol(c) }
func isHan(c rune) bool    { return unicode.Is(unicode.Han, c) }

// only tells whether a value is made of such characters alone.
func only(v string, is func(rune) bool) bool {
	return !strings.ContainsFunc(v, func(c rune) bool { return !is(c) })
}

// checkPage says what WeChat would refuse (41030) about a page of a mini-program, "" when nothing.
func checkPage(page string) string {
	path, _, _ := strings.Cut(page, "?")
	switch {
	case page == "":
		return ""
	case strings.HasPrefix(path, "/"):
		return "begins with a /: WeChat wants it without, like pages/order?id=1"
	case !pageForm.MatchString(path) || strings.ContainsFunc(page, unicode.IsControl):
		return "must be a page of the mini-program with its query, like pages/order?id=1"
	case len(page) > 1024:
		return fmt.Sprintf("%d bytes, at most 1024", len(page))
	}
	return ""
}

// CheckUser says what is wrong with a partner's own name for a user, "" when nothing: lists, logs and paths show it.
func CheckUser(s string) string {
	switch {
	case !utf8.ValidString(s):
		return NotText
	case strings.ContainsFunc(s, unicode.IsControl):
		return "has a control character: remove it"
	}
	return ""
}

var openIDForm = regexp.MustCompile(`^[A-Za-z0-9_-]{1,64}$`)

// IsOpenID tells whether a text has the form of an openid.
func IsOpenID(s string) bool { return openIDForm.MatchString(s) }

var colorForm = regexp.MustCompile(`^#[0-9A-Fa-f]{6}$`)

// checkColors is of the legacy template alone: the other channels' colors WeChat takes as they are and shows none of
// them.
func checkColors(f *Issues, where, whole string, data Data) {
	const reason = "must be a color like #173177"
	if whole != "" && !colorForm.MatchString(whole) {
		f.Add(where+"color", reason)
	}
	for _, k := range data {
		if k.Color != "" && !colorForm.MatchString(k.Color) {
			f.Add(where+"data."+k.Name+".color", reason)
		}
	}
}

func units(s string) int {
	n := 0
	for _, c := range s {
		n += max(utf16.RuneLen(c), 1)
	}
	return n
}

func digits(s string) int {
	n := 0
	for _, c := range s {
		if c >= '0' && c <= '9' {
			n++
		}
	}
	return n
}

// tooLong is the reason when a value has more than most units. It says how they are counted where one could count
// otherwise.
func tooLong(v string, most int) string {
	n := units(v)
	switch {
	case n <= most:
		return ""
	case n != utf8.RuneCountInString(v):
		return fmt.Sprintf("%d characters, at most %d (counted in UTF-16 units: an emoji is 2 or more)", n, most)
	}
	return fmt.Sprintf("%d characters, at most %d", n, most)
}

// checkValue says what WeChat would refuse about a keyword's value, "" when nothing. enums are the values of an enum
// keyword, nil when not known.
func checkValue(key, v string, enums []string) string {
	if strings.TrimSpace(v) == "" {
		return "is empty: WeChat wants every keyword filled"
	}
	if !utf8.ValidString(v) {
		return NotText
	}
	if strings.ContainsFunc(v, func(c rune) bool { return unicode.IsControl(c) || c == '\u2028' || c == '\u2029' }) {
		return "has a line break or control character: remove it"
	}
	switch keywordType(key) {
	case "thing":
		return tooLong(v, 20)
	case "number":
		if !numberForm.MatchString(v) {
			return "must be digits, decimals allowed, no sign"
		}
		return tooLong(v, 32)
	case "letter":
		if !only(v, isLetter) {
			return "must be letters only"
		}
		return tooLong(v, 32)
	case "symbol":
		if !only(v, isSymbol) {
			return "must be symbols only"
		}
		return tooLong(v, 5)
	case "character_string":
		if !only(v, func(c rune) bool { return isDigit(c) || isLetter(c) || isSymbol(c) || c == ' ' }) {
			return "may have digits, letters and symbols, no Chinese characters"
		}
		return tooLong(v, 32)
	case "time":
		return checkRange(v, func(s string) bool { return clockForm.MatchString(s) || isMoment(s) },
			"must be a time like 15:01, 2019年10月1日 15:01, or two joined by ~")
	case "date":
		return checkRange(v, func(s string) bool { return isDay(s) || isMoment(s) },
			"must be a date like 2019年10月1日, 2019-10-01, or two joined by ~")
	case "amount":
		if !amountForm.MatchString(v) {
			return "must be at most one currency symbol and digits, like ¥100.5 or 100元"
		}
		if n := digits(v); n > 10 {
			return fmt.Sprintf("%d digits, at most 10", n)
		}
	case "phone_number":
		if !only(v, func(c rune) bool { return isDigit(c) || isSymbol(c) }) {
			return "must be digits and symbols, like +86-0766-66888866"
		}
		return tooLong(v, 17)
	case "car_number":
		if !carForm.MatchString(v) {
			return "must be letters and digits; the first and last may be Chinese"
		}
		return tooLong(v, 8)
	case "name":
		if !only(v, func(c rune) bool { return isHan(c) || isLetter(c) || isSymbol(c) || c == ' ' }) {
			return "must be Chinese characters, or letters and symbols, no digits"
		}
		if strings.ContainsFunc(v, isHan) {
			return tooLong(v, 10)
		}
		return tooLong(v, 20)
	case "phrase":
		if !only(v, isHan) {
			return "must be Chinese characters only"
		}
		return tooLong(v, 5)
	case "enum_string", "enum":
		if enums != nil {
			for _, e := range enums {
				if e == v {
					return ""
				}
			}
			return "must be one of " + strings.Join(enums, ", ")
		}
	}
	return ""
}

// checkRange checks a value or two joined by `~`. The full-width ～ looks alike and is refused by WeChat (47003).
func checkRange(v string, fits func(string) bool, reason string) string {
	if strings.ContainsRune(v, '～') {
		return "has the full-width ～: join ranges with the ASCII ~"
	}
	parts := strings.Split(v, "~")
	if len(parts) > 2 {
		return reason
	}
	for _, p := range parts {
		if len(parts) == 2 {
			p = strings.TrimSpace(p)
		}
		if !fits(p) {
			return reason
		}
	}
	return ""
}

// shorten cuts a value where cutting is safe: free text keeps its meaning with a shorter end, a number or a date
// does not.
func shorten(key, v string) string {
	if keywordType(key) != "thing" || units(v) <= 20 {
		return v
	}
	n, end := 0, 0
	for i, c := range v {
		w := max(utf16.RuneLen(c), 1)
		if n+w > 19 {
			end = i
			break
		}
		n += w
	}
	return v[:end] + "…"
}
