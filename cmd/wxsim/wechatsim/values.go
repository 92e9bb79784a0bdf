package wechatsim

import (
	"regexp"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf16"
)

// The value rules of subscribe messages (参数值内容限制), strictly. Length is counted in UTF-16 units, as the front end's
// .length does; "symbol" is any printable character that is neither letter, digit nor Chinese, and a plain space.
// https://developers.weixin.qq.com/miniprogram/dev/server/API/mp-message-management/subscribe-message/api_sendmessage

// Fits tells whether the platform would take a keyword's value; see valueFits.
func Fits(keyword, value string, enums map[string][]string) bool {
	return value != "" && valueFits(keyword, value, enums)
}

// valueFits says whether a value suits a keyword such as thing1; enums are those of the template.
func valueFits(keyword, value string, enums map[string][]string) bool {
	if strings.ContainsFunc(value, func(r rune) bool { return unicode.IsControl(r) || unicode.In(r, unicode.Zl, unicode.Zp) }) {
		return false
	}
	kind := strings.TrimRight(keyword, "0123456789")
	n := len(utf16.Encode([]rune(value)))
	switch kind {
	case "thing":
		return n <= 20
	case "number":
		return n <= 32 && numberForm.MatchString(value)
	case "letter":
		return n <= 32 && every(value, isLetter)
	case "symbol":
		return n <= 5 && every(value, func(r rune) bool { return isSymbol(r) && r != ' ' })
	case "character_string":
		return n <= 32 && every(value, func(r rune) bool { return isDigit(r) || isLetter(r) || isSymbol(r) })
	case "time":
		return ranged(value, isTime)
	case "date":
		return ranged(value, isDate)
	case "amount":
		return isAmount(value)
	case "phone_number":
		return n <= 17 && every(value, func(r rune) bool { return isDigit(r) || isSymbol(r) && r != ' ' })
	case "car_number":
		return n <= 8 && isCarNumber([]rune(value))
	case "name":
		return isName(value, n)
	case "phrase":
		return n <= 5 && every(value, isChinese)
	case "enum_string", "enum":
		for _, allowed := range enums[keyword] {
			if value == allowed {
				return true
			}
		}
		return false
	}
	return n <= 200 // const, site and what else old templates carry
}

var (
	numberForm = regexp.MustCompile(`^[0-9]+(\.[0-9]+)?$`)
	amountForm = regexp.MustCompile(`^[0-9]+(\.[0-9]+)?$`)
	clockForm  = regexp.MustCompile(`^([01]?[0-9]|2[0-3]):[0-5][0-9](:[0-5][0-9])?$`)
	dateForms  = []*regexp.Regexp{
		regexp.MustCompile(`^(?P<y>[0-9]{4})年(?P<m>[0-9]{1,2})月(?P<d>[0-9]{1,2})日$`),
		regexp.MustCompile(`^(?P<y>[0-9]{4})年(?P<m>[0-9]{1,2})月$`),
		regexp.MustCompile(`^(?P<m>[0-9]{1,2})月(?P<d>[0-9]{1,2})日$`),
		regexp.MustCompile(`^(?P<y>[0-9]{4})-(?P<m>[0-9]{1,2})(-(?P<d>[0-9]{1,2}))?$`),
		regexp.MustCompile(`^(?P<y>[0-9]{4})/(?P<m>[0-9]{1,2})(/(?P<d>[0-9]{1,2}))?$`),
		regexp.MustCompile(`^(?P<y>[0-9]{4})\.(?P<m>[0-9]{1,2})(\.(?P<d>[0-9]{1,2}))?$`),
		regexp.MustCompile(`^(?P<m>[0-9]{1,2})[-/.](?P<d>[0-9]{1,2})$`),
	}
)

func every(value string, is func(rune) bool) bool {
	for _, r := range value {
		if !is(r) {
			return false
		}
	}
	return value != ""
}

func isDigit(r rune) bool   { return r >= '0' && r <= '9' }
func isLetter(r rune) bool  { return r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' }
func isChinese(r rune) bool { return unicode.Is(unicode.Han, r) }
func isSymbol(r rune) bool {
	return r == ' ' || unicode.IsPunct(r) || unicode.IsSymbol(r)
}

// ranged is one value or two joined by an ASCII ~ (the full-width one is refused).
func ranged(value string, is func(string) bool) bool {
	from, to, two := strings.Cut(value, "~")
	if !two {
		return is(value)
	}
	return is(strings.TrimSpace(from)) && is(strings.TrimSpace(to))
}

// isTime is HH:MM or HH:MM:SS with an optional date before it.
func isTime(v string) bool {
	if clockForm.MatchString(v) {
		return true
	}
	day, clock, ok := cutLast(v, " ")
	return ok && clockForm.MatchString(clock) && isDay(day)
}

// isDate is a date with an optional time after it.
func isDate(v string) bool {
	if isDay(v) {
		return true
	}
	day, clock, ok := cutLast(v, " ")
	return ok && clockForm.MatchString(clock) && isDay(day)
}

func cutLast(s, sep string) (before, after string, ok bool) {
	i := strings.LastIndex(s, sep)
	if i < 0 {
		return s, "", false
	}
	return s[:i], s[i+len(sep):], true
}

func isDay(v string) bool {
	for _, form := range dateForms {
		m := form.FindStringSubmatch(v)
		if m == nil {
			continue
		}
		within := true
		for i, name := range form.SubexpNames() {
			if m[i] == "" || (name != "m" && name != "d") {
				continue
			}
			n, err := strconv.Atoi(m[i])
			top := 12
			if name == "d" {
				top = 31
			}
			within = within && err == nil && n >= 1 && n <= top
		}
		if within {
			return true
		}
	}
	return false
}

// isAmount is at most one currency sign, at most 10 digits with decimals, and 元 at the end if one likes.
func isAmount(v string) bool {
	v = strings.TrimSuffix(v, "元")
	if r := []rune(v); len(r) > 0 && unicode.Is(unicode.Sc, r[0]) {
		v = string(r[1:])
	}
	return amountForm.MatchString(v) && len(strings.Replace(v, ".", "", 1)) <= 10
}

// isCarNumber is letters and digits, with Chinese allowed at both ends.
func isCarNumber(r []rune) bool {
	for i, c := range r {
		if isDigit(c) || isLetter(c) || isChinese(c) && (i == 0 || i == len(r)-1) {
			continue
		}
		return false
	}
	return len(r) > 0
}

// isName is 10 characters when Chinese is in it, 20 letters and symbols when not.
func isName(v string, n int) bool {
	if !every(v, func(r rune) bool { return isChinese(r) || isLetter(r) || isSymbol(r) }) {
		return false
	}
	if strings.ContainsFunc(v, isChinese) {
		return n <= 10
	}
	return n <= 20
}
