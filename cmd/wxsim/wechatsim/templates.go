package wechatsim

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"sort"
	"strconv"
	"strings"
)

// https://developers.weixin.qq.com/miniprogram/dev/server/API/mp-message-management/subscribe-message/api_getwxapubnewtemplate

func templateRoutes() []route {
	return []route{
		{path: "/wxaapi/newtmpl/gettemplate", method: http.MethodGet, token: true, serve: (*call).getTemplates},
		{path: "/wxaapi/newtmpl/addtemplate", method: http.MethodPost, token: true, serve: (*call).addTemplate},
		{path: "/wxaapi/newtmpl/deltemplate", method: http.MethodPost, token: true, serve: (*call).delTemplate},
		{path: "/wxaapi/newtmpl/getcategory", method: http.MethodGet, token: true, serve: (*call).getCategory},
		{path: "/wxaapi/newtmpl/getpubtemplatetitles", method: http.MethodGet, token: true, serve: (*call).getTitles},
		{path: "/wxaapi/newtmpl/getpubtemplatekeywords", method: http.MethodGet, token: true, serve: (*call).getKeywords},
	}
}

const maxTemplates = 25

// public is the library that addtemplate draws from.
type public struct {
	tid, category int
	title         string
	kind          TemplateType
	keywords      []keyword
}

type keyword struct {
	KID     int    `json:"kid"`
	Name    string `json:"name"`
	Example string `json:"example"`
	Rule    string `json:"rule"`
}

var library = []public{
	{99, 2, "付款成功通知", OneTime, []keyword{{1, "付款金额", "¥100", "amount"}, {2, "商品名称", "苹果", "thing"}, {3, "支付时间", "2019年10月1日 15:01", "date"}}},
	{401, 2, "报名结果通知", OneTime, []keyword{{1, "活动名称", "羽毛球", "thing"}, {2, "结果", "通过", "phrase"}, {3, "报名人", "张三", "name"}, {4, "联系电话", "13800000000", "phone_number"}}},
	{616, 616, "挂号成功通知", LongTerm, []keyword{{1, "就诊人", "张三", "name"}, {2, "就诊时间", "15:01", "time"}, {3, "挂号单", "G123", "character_string"}}},
}

type listAnswer struct {
	Errcode int    `json:"errcode"`
	Errmsg  string `json:"errmsg"`
	Count   *int   `json:"count,omitempty"`
	Data    any    `json:"data"`
}

func listed(v any) answer { return answer{body: listAnswer{Errmsg: "ok", Data: v}} }

func (c *call) getTemplates() answer {
	type enum struct {
		Values  []string `json:"enumValueList"`
		Keyword string   `json:"keywordCode"`
	}
	type row struct {
		ID      string `json:"priTmplId"`
		Title   string `json:"title"`
		Content string `json:"content"`
		Example string `json:"example"`
		Type    int    `json:"type"`
		Enums   []enum `json:"keywordEnumValueList,omitempty"`
	}
	rows := []row{}
	for _, t := range c.app.conf().Templates {
		if t.Legacy || t.OfOA {
			continue
		}
		r := row{ID: t.ID, Title: t.Title, Content: t.Content, Example: t.Example, Type: int(t.Type)}
		for key, values := range t.Enums {
			r.Enums = append(r.Enums, enum{values, key + ".DATA"})
		}
		sort.Slice(r.Enums, func(i, j int) bool { return r.Enums[i].Keyword < r.Enums[j].Keyword })
		rows = append(rows, r)
	}
	return listed(rows)
}

func (c *call) addTemplate() answer {
	var q struct {
		TID   json.RawMessage `json:"tid"` // the document says string and shows a number
		KIDs  []int           `json:"kidList"`
		Scene string          `json:"sceneDesc"`
	}
	if bad := c.read(&q); bad.errcode != 0 {
		return bad
	}
	p := publicByTID(strings.Trim(string(q.TID), `"`))
	switch {
	case p == nil:
		return fail(200014, "invalid tid")
	case len(q.KIDs) < 2 || len(q.KIDs) > 5:
		return fail(200020, "invalid kidList")
	case len([]rune(q.Scene)) > 15:
		return fail(200021, "invalid sceneDesc")
	}
	t := Template{Title: p.title, Type: p.kind}
	for _, kid := range q.KIDs {
		k := p.keyword(kid)
		if k == nil {
			return fail(200020, "invalid kidList")
		}
		t.Content += fmt.Sprintf("%s:{{%s%d.DATA}}\n", k.Name, k.Rule, k.KID)
		t.Example += fmt.Sprintf("%s:%s\n", k.Name, k.Example)
	}
	h := derive(c.o.Seed, "added", c.app.conf().AppID, c.dice.bits())
	t.ID = base64.RawURLEncoding.EncodeToString(h[:])
	if bad := c.app.library(func(have []Template) ([]Template, answer) {
		if len(have) >= maxTemplates {
			return nil, fail(200012, "private template count exceeds limit")
		}
		for _, h := range have {
			if h.Title == t.Title && h.Content == t.Content {
				return nil, fail(200022, "template already exists")
			}
		}
		return append(have, t), answer{}
	}); bad.errcode != 0 {
		return bad
	}
	return answer{body: struct {
		Errcode int    `json:"errcode"`
		Errmsg  string `json:"errmsg"`
		ID      string `json:"priTmplId"`
	}{0, "ok", t.ID}}
}

func (c *call) delTemplate() answer {
	var q struct {
		ID string `json:"priTmplId"`
	}
	if bad := c.read(&q); bad.errcode != 0 {
		return bad
	}
	if bad := c.app.library(func(have []Template) ([]Template, answer) {
		for i, t := range have {
			if t.ID == q.ID {
				return append(have[:i], have[i+1:]...), answer{}
			}
		}
		return nil, fail(200002, "invalid priTmplId")
	}); bad.errcode != 0 {
		return bad
	}
	return fine
}

// library changes an app's templates; change gets a copy.
func (a *app) library(change func([]Template) ([]Template, answer)) answer {
	a.edit.Lock()
	defer a.edit.Unlock()
	next := *a.conf()
	templates, bad := change(append([]Template(nil), next.Templates...))
	if bad.errcode != 0 {
		return bad
	}
	next.Templates = templates
	a.settings.Store(&next)
	return answer{}
}

func (c *call) getCategory() answer {
	type category struct {
		ID   int    `json:"id"`
		Name string `json:"name"`
	}
	return listed([]category{{2, "商业服务"}, {616, "医疗"}})
}

func (c *call) getTitles() answer {
	start, errStart := strconv.Atoi(c.q.Get("start"))
	limit, errLimit := strconv.Atoi(c.q.Get("limit"))
	ids := strings.Trim(c.q.Get("ids"), `"`)
	switch {
	case errStart != nil || start < 0:
		return fail(200016, "invalid start")
	case errLimit != nil || limit < 1 || limit > 30:
		return fail(200017, "invalid limit")
	case ids == "":
		return fail(200018, "ids missing")
	}
	type row struct {
		TID      int    `json:"tid"`
		Title    string `json:"title"`
		Type     int    `json:"type"`
		Category string `json:"categoryId"`
	}
	rows := []row{}
	for _, p := range library {
		if strings.Contains(","+ids+",", fmt.Sprintf(",%d,", p.category)) {
			rows = append(rows, row{p.tid, p.title, int(p.kind), strconv.Itoa(p.category)})
		}
	}
	count := len(rows)
	rows = rows[min(start, count):min(start+limit, count)]
	return answer{body: listAnswer{Errmsg: "ok", Count: &count, Data: rows}}
}

func (c *call) getKeywords() answer {
	p := publicByTID(c.q.Get("tid"))
	if p == nil {
		return fail(200014, "invalid tid")
	}
	count := len(p.keywords)
	return answer{body: listAnswer{Errmsg: "ok", Count: &count, Data: p.keywords}}
}

func publicByTID(tid string) *public {
	for i := range library {
		if strconv.Itoa(library[i].tid) == tid {
			return &library[i]
		}
	}
	return nil
}

func (p *public) keyword(kid int) *keyword {
	for i := range p.keywords {
		if p.keywords[i].KID == kid {
			return &p.keywords[i]
		}
	}
	return nil
}
