package wechatsim

import (
	"strings"
	"testing"
)

// TestValueRules is the table of 参数值内容限制, both sides of every edge.
func TestValueRules(t *testing.T) {
	enums := map[string][]string{"enum_string2": {"生效", "到期"}}
	for _, c := range []struct {
		keyword    string
		fit, unfit []string
	}{
		{"thing1", []string{"苹果", strings.Repeat("字", 20), "a b,1。"}, []string{strings.Repeat("字", 21), "a\nb", "a\tb", strings.Repeat("😀", 11)}},
		{"number1", []string{"1", "12.50", strings.Repeat("1", 32)}, []string{"-1", "1.", "1,000", "一", strings.Repeat("1", 33)}},
		{"letter1", []string{"abcXYZ"}, []string{"a1", "a b", "字", strings.Repeat("a", 33)}},
		{"symbol1", []string{"+-*/!"}, []string{"a", "1", "字", "++++++"}},
		{"character_string2", []string{"A-1234", "a_b/c:9"}, []string{"订单1", strings.Repeat("1", 33), "a\n"}},
		{"time3", []string{"15:01", "23:59:59", "2019年10月1日 15:01", "2019-10-01 15:01:02", "15:01~16:00", "2019年10月1日 15:01~2019年10月1日 16:00"},
			[]string{"24:00", "15:60", "2019年10月1日", "15:01～16:00", "下午3点", "2019-13-01 10:00"}},
		{"date4", []string{"2019年10月1日", "2019年10月", "10月1日", "2019-10-01", "2018-01", "01-01", "2019/10/01", "2019.10.01", "2019-12-25 09:42", "2019年10月1日~2019年10月7日"},
			[]string{"2019-13-01", "2019-10-32", "明天", "2019年10月1日～2019年10月7日", "20191001", "2019-10/01"}},
		{"amount2", []string{"¥100", "￥100.50", "$9", "100元", "€12元", "1234567890"}, []string{"¥¥100", "12345678901", "100元整", "一百", "-5", ""}},
		{"phone_number3", []string{"+86-0766-66888866", "13800000000"}, []string{"138 0000 0000", "123456789012345678", "tel1"}},
		{"car_number1", []string{"粤A8Z888挂", "A12345"}, []string{"粤粤A1234", "粤A8Z8888挂", "A-1"}},
		{"name1", []string{"张三", "Ann Lee", strings.Repeat("字", 10), strings.Repeat("a", 20), "Ann李"}, []string{strings.Repeat("字", 11), strings.Repeat("a", 21), "张三3", "Annabella Wu李李"}},
		{"phrase1", []string{"审核通过", "五个汉字啊"}, []string{"六个汉字不行", "ok", "通过1"}},
		{"enum_string2", []string{"生效", "到期"}, []string{"失效", ""}},
		{"keyword1", []string{"anything at all", "100元"}, []string{"a\x00b"}},
	} {
		for _, v := range c.fit {
			if !valueFits(c.keyword, v, enums) {
				t.Errorf("%s refuses %q", c.keyword, v)
			}
		}
		for _, v := range c.unfit {
			if valueFits(c.keyword, v, enums) {
				t.Errorf("%s takes %q", c.keyword, v)
			}
		}
	}
}

func TestKeywordsOfATemplate(t *testing.T) {
	tm := Template{Content: "商品:{{thing1.DATA}}\n金额:{{amount22.DATA}}\n单号:{{character_string3.DATA}}"}
	if got := strings.Join(tm.keywords(), " "); got != "thing1 amount22 character_string3" {
		t.Error(got)
	}
}
