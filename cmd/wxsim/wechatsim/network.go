package wechatsim

import "net/http"

// https://developers.weixin.qq.com/miniprogram/dev/server/API/openApi-mgnt/api_getcallbackip

func networkRoutes() []route {
	return []route{
		{path: "/cgi-bin/getcallbackip", method: http.MethodGet, token: true, serve: (*call).addresses},
		{path: "/cgi-bin/get_api_domain_ip", method: http.MethodGet, token: true, serve: (*call).addresses},
		{path: "/cgi-bin/callback/check", method: http.MethodPost, token: true, serve: (*call).checkCallback},
	}
}

// addresses of a simulated platform: everything is this machine. One is a segment, as real lists contain.
func (c *call) addresses() answer {
	return answer{body: struct {
		List []string `json:"ip_list"`
	}{[]string{"127.0.0.1", "127.0.0.0/24", "::1"}}}
}

func (c *call) checkCallback() answer {
	var q struct {
		Action   string `json:"action"`
		Operator string `json:"check_operator"`
	}
	if bad := c.read(&q); bad.errcode != 0 {
		return bad
	}
	operators := map[string]bool{"CHINANET": true, "UNICOM": true, "CAP": true, "DEFAULT": true}
	switch {
	case c.app.conf().CallbackURL == "":
		return fail(40201, "callback url not set")
	case q.Action != "all" && q.Action != "dns" && q.Action != "ping":
		return fail(40202, "invalid action")
	case !operators[q.Operator]:
		return fail(40203, "invalid check_operator")
	}
	type dns struct {
		IP       string `json:"ip"`
		Operator string `json:"real_operator"`
	}
	type ping struct {
		IP   string `json:"ip"`
		From string `json:"from_operator"`
		Loss string `json:"package_loss"`
		Time string `json:"time"`
	}
	body := struct {
		DNS  []dns  `json:"dns,omitempty"`
		Ping []ping `json:"ping,omitempty"`
	}{}
	if q.Action != "ping" {
		body.DNS = []dns{{"127.0.0.1", "CAP"}}
	}
	if q.Action != "dns" {
		body.Ping = []ping{{"127.0.0.1", "CAP", "0%", "0.079ms"}}
	}
	return answer{body: body}
}
