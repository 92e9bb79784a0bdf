package message

import (
	"strings"
	"testing"
)

// The values of WeChat's own table and of its documents' examples, and what is told to be refused.
func TestCheckValue(t *testing.T) {
	for _, c := range []struct {
		key, value string
		reason     string // part of it; "" = fine
	}{
		{"thing1", "二十个汉字二十个汉字二十个汉字二十个汉字", ""},
		{"thing1", "二十个汉字二十个汉字二十个汉字二十个汉字多三个", "23 characters, at most 20"},
		{"thing1", "twenty characters ok", ""},
		{"thing1", "😀😀😀😀😀😀😀😀😀😀", ""},
		{"thing1", "😀😀😀😀😀😀😀😀😀😀a", "21 characters, at most 20 (counted in UTF-16 units"},
		{"thing1", "", "empty"},
		{"thing1", "  ", "empty"},
		{"thing1", "a\nb", "line break"},
		{"thing1", "a\x00b", "control character"},
		{"thing1", "a\u2028b", "line break"},
		{"thing1", "\xff", "UTF-8"},
		{"number2", "3.14", ""},
		{"number2", "-3", "no sign"},
		{"number2", "+3", "no sign"},
		{"number2", "three", "digits"},
		{"number2", strings.Repeat("1", 33), "33 characters"},
		{"letter3", "abcXYZ", ""},
		{"letter3", "abc1", "letters only"},
		{"symbol4", "!@#", ""},
		{"symbol4", "!a", "symbols only"},
		{"symbol4", "! !", "symbols only"},
		{"symbol4", "!!!!!!", "6 characters"},
		{"character_string5", "A-2019/11", ""},
		{"character_string5", "单号1", "no Chinese"},
		{"character_string5", strings.Repeat("x", 33), "33 characters"},
		{"time6", "15:01", ""},
		{"time6", "15:01:59", ""},
		{"time6", "2019年10月1日 15:01", ""},
		{"time6", "2019-10-01 15:01~2019-10-01 16:30", ""},
		{"time6", "09:00~10:00", ""},
		{"time6", "09:00～10:00", "full-width"},
		{"time6", "25:00", "must be a time"},
		{"time6", "24:30", "must be a time"},
		{"time6", "24:00", "must be a time"},
		{"time6", "2019-10-0115:01", "must be a time"},
		{"time6", "2019年10月1日15:01", "must be a time"},
		{"time6", "2019-13-01 15:01", "must be a time"},
		{"time6", "09:00~10:00~11:00", "must be a time"},
		{"time6", "tomorrow", "must be a time"},
		{"date7", "2019年10月1日", ""},
		{"date7", "2019年10月", ""},
		{"date7", "10月1日", ""},
		{"date7", "2018-01", ""},
		{"date7", "01-01", ""},
		{"date7", "2019/10/01", ""},
		{"date7", "2019.10.01 15:01", ""},
		{"date7", "2019-10-01~2019-10-07", ""},
		{"date7", "Oct 1st", "must be a date"},
		{"date7", "2019-13-45", "must be a date"},
		{"date7", "2019-10/01", "must be a date"},
		{"date7", "13月1日", "must be a date"},
		{"date7", "2019年10月32日", "must be a date"},
		{"date7", "2019.10.01 24:30", "must be a date"},
		{"amount8", "¥100", ""},
		{"amount8", "100.5元", ""},
		{"amount8", "￥1000.00元", ""},
		{"amount8", "1000", ""},
		{"amount8", "$1,000.00", "currency"},
		{"amount8", "abc100", "currency"},
		{"amount8", "¥¥100", "currency"},
		{"amount8", "¥ 100", "currency"},
		{"amount8", "100元整", "currency"},
		{"amount8", "¥12345678901", "11 digits, at most 10"},
		{"phone_number9", "+86-0766-66888866", ""},
		{"phone_number9", "call me", "digits and symbols"},
		{"phone_number9", "0766 66888866", "digits and symbols"},
		{"phone_number9", "123456789012345678", "18 characters"},
		{"car_number10", "粤A8Z888挂", ""},
		{"car_number10", "A粤8Z888", "first and last"},
		{"car_number10", "粤A8Z8888挂", "9 characters"},
		{"name11", "张三", ""},
		{"name11", "张三丰张三丰张三丰张三", "11 characters, at most 10"},
		{"name11", "John Ronald Reuel T.", ""},
		{"name11", "张3", "no digits"},
		{"name11", "John Ronald Reuel Tol", "21 characters, at most 20"},
		{"phrase12", "审核通过", ""},
		{"phrase12", "审核通过啦啦", "6 characters"},
		{"phrase12", "ok", "Chinese characters only"},
		{"other13", "of a type we do not know", ""},
	} {
		got := checkValue(c.key, c.value, nil)
		if c.reason == "" && got != "" || c.reason != "" && !strings.Contains(got, c.reason) {
			t.Errorf("%s %q: %q, want %q", c.key, c.value, got, c.reason)
		}
	}
}

func TestCheckValueOfAnEnumIsOneOfItsList(t *testing.T) {
	enums := []string{"已发货", "已签收"}
	if got := checkValue("enum_string2", "已发货", enums); got != "" {
		t.Error(got)
	}
	if got := checkValue("enum_string2", "在路上", enums); !strings.Contains(got, "已发货, 已签收") {
		t.Errorf("%q does not name what is allowed", got)
	}
}

func TestShortenCutsOnlyWhereItIsSafe(t *testing.T) {
	long := strings.Repeat("长", 25)
	got := shorten("thing1", long)
	if units(got) != 20 || !strings.HasSuffix(got, "…") || checkValue("thing1", got, nil) != "" {
		t.Errorf("%q: %d characters", got, units(got))
	}
	if got := shorten("thing1", strings.Repeat("😀", 15)); units(got) > 20 || strings.ContainsRune(got, '�') {
		t.Errorf("an emoji was cut in half: %q", got)
	}
	for _, key := range []string{"number1", "character_string1", "date1", "amount1", "phone_number1"} {
		if got := shorten(key, long); got != long {
			t.Errorf("%s was cut: a shorter one means something else", key)
		}
	}
	if got := shorten("thing1", "fits"); got != "fits" {
		t.Error(got)
	}
}

func TestCheckPage(t *testing.T) {
	for page, reason := range map[string]string{
		"":                               "",
		"pages/order":                    "",
		"pages/order-list/index_2?id=订单": "",
		"index":                          "",
		"/pages/order":                   "begins with a /",
		"pages order":                    "must be a page",
		"pages/订单":                       "must be a page",
		"?id=1":                          "must be a page",
		"https://example.com":            "must be a page",
		"pages/order?a=\n":               "must be a page",
		"p?" + strings.Repeat("x", 1024): "1026 bytes",
	} {
		got := checkPage(page)
		if reason == "" && got != "" || reason != "" && !strings.Contains(got, reason) {
			t.Errorf("%q: %q, want %q", page, got, reason)
		}
	}
}

func TestKeywordType(t *testing.T) {
	for key, want := range map[string]string{"thing1": "thing", "character_string12": "character_string", "phone_number_3": "phone_number", "thing": "", "1": "",
		"": "", "Thing1": "", "thing1x": "", "名1": "", "_1": "_", "a__1": "a_"} {
		if got := keywordType(key); got != want {
			t.Errorf("%q: %q, want %q", key, got, want)
		}
	}
}
