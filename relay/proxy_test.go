package relay

import (
	"strings"
	"testing"
	"time"

	"github.com/wxrelay/wxrelay/relay/wechat"
)

// What wechat_api reaches: everything but tokens, quotas and secrets, or what wechat_paths names.
func TestMayCall(t *testing.T) {
	for _, c := range []struct {
		paths []string
		open  string
		shut  string
	}{
		{nil, "/wxa/x /cgi-bin/message/subscribe/send /wxaapi/newtmpl/gettemplate /cgi-bin/media/upload /datacube/x /cgi-bin/ticket/getticket",
			"/cgi-bin/token /cgi-bin/stable_token /cgi-bin/Stable_Token /sns/jscode2session /sns/oauth2/access_token /cgi-bin/clear_quota /cgi-bin/clear_quota/v2 /cgi-bin/openapi/quota/get /cgi-bin/openapi/quota/clear /cgi-bin/openapi/rid/get /cgi-bin/component/api_component_token /wxa/resetusersessionkey"},
		{[]string{"cgi-bin/*"}, "/cgi-bin/media/upload /cgi-bin/message/custom/send", "/cgi-bin/token /cgi-bin/clear_quota /cgi-bin/openapi/quota/get /wxa/x /cgi-binx/y"},
		{[]string{"wxa/*", "cgi-bin/openapi/quota/get"}, "/wxa/a/b /cgi-bin/openapi/quota/get", "/cgi-bin/openapi/quota/clear /cgi-bin/media/upload /wxaapi/x"},
		{[]string{"cgi-bin/token", "sns/*"}, "", "/cgi-bin/token /sns/jscode2session"},
		{[]string{"wxa/msg_sec_check"}, "/wxa/msg_sec_check", "/wxa/msg_sec_check2 /wxa/msg_sec_check/x"},
	} {
		p := Partner{WeChatPaths: c.paths}
		for path := range strings.FieldsSeq(c.open) {
			if !p.mayCall(path) {
				t.Errorf("%v: %s is closed", c.paths, path)
			}
		}
		for path := range strings.FieldsSeq(c.shut) {
			if p.mayCall(path) {
				t.Errorf("%v: %s is open", c.paths, path)
			}
		}
	}
}

// A token of ours is the same wherever it is made, says nothing to a reader, and changes with each thing in it.
func TestMintToken(t *testing.T) {
	c, g := Caller{"orders", "shop"}, wechat.Grant{Generation: 1, IssuedAt: time.UnixMilli(1700000000000)}
	first := mintToken("s1", c, g)
	if first != mintToken("s1", c, g) || strings.Contains(first, "s1") || strings.Contains(first, "orders") || len(first) > 128 {
		t.Error(first)
	}
	later := g
	later.IssuedAt = later.IssuedAt.Add(time.Millisecond)
	next := g
	next.Generation++
	for name, other := range map[string]string{"secret": mintToken("s2", c, g), "partner": mintToken("s1", Caller{"stock", "shop"}, g),
		"app": mintToken("s1", Caller{"orders", "news"}, g), "time": mintToken("s1", c, later), "generation": mintToken("s1", c, next)} {
		if other == first {
			t.Errorf("another %s is the same token", name)
		}
	}
}
