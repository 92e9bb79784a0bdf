package wechat

import (
	"context"
	"regexp"
	"strings"

	"github.com/silenceper/wechat/v2/util"
)

const (
	pathTemplates   = "/wxaapi/newtmpl/gettemplate"
	pathOATemplates = "/cgi-bin/template/get_all_private_template"
)

// Template is one message template of the account. Keywords are the keys its content names ("thing1"), in order;
// Enums holds the allowed values of those that have a list. Type: 2 one-time, 3 long-term, 0 official account.
type Template struct {
	ID, Title, Content, Example string
	Type                        int
	Enums                       map[string][]string
	Keywords                    []string
}

// Templates lists the account's templates: gettemplate, or get_all_private_template for an official account.
// Errors: as Send.
// https://developers.weixin.qq.com/miniprogram/dev/server/API/mp-message-management/subscribe-message/api_getwxapubnewtemplate
func (c *Client) Templates(ctx context.Context, app string) (list []Template, err error) {
	k, err := c.keeper(app)
	if err != nil {
		return nil, err
	}
	read, path := miniProgramTemplates, pathTemplates
	if k.app.Kind == KindOfficialAccount {
		read, path = officialAccountTemplates, pathOATemplates
	}
	err = k.withToken(ctx, func(ctx context.Context, token string) error {
		x := k.exchange(path, token)
		return x.do(ctx, k.c.o.Timeout, func(ctx context.Context) error {
			_, err := util.HTTPGetContext(ctx, sdkHost+path+tokenQuery(token))
			list, err = read(x, err)
			return err
		})
	})
	return list, err
}

func miniProgramTemplates(x *exchange, sdkErr error) ([]Template, error) {
	var res struct {
		Data []struct {
			ID      looseText `json:"priTmplId"`
			Title   looseText `json:"title"`
			Content looseText `json:"content"`
			Example looseText `json:"example"`
			Type    looseInt  `json:"type"`
			Enums   []struct {
				Keyword looseText   `json:"keywordCode"`
				Values  []looseText `json:"enumValueList"`
			} `json:"keywordEnumValueList"`
		} `json:"data"`
	}
	if err := x.into(&res, sdkErr); err != nil {
		return nil, err
	}
	list := make([]Template, 0, len(res.Data))
	for _, t := range res.Data {
		one := Template{ID: string(t.ID), Title: string(t.Title), Content: string(t.Content), Example: string(t.Example),
			Type: int(t.Type), Keywords: keywords(string(t.Content))}
		for _, e := range t.Enums {
			if one.Enums == nil {
				one.Enums = map[string][]string{}
			}
			values := make([]string, len(e.Values))
			for i, v := range e.Values {
				values[i] = string(v)
			}
			one.Enums[strings.TrimSuffix(string(e.Keyword), ".DATA")] = values
		}
		list = append(list, one)
	}
	return list, nil
}

func officialAccountTemplates(x *exchange, sdkErr error) ([]Template, error) {
	var res struct {
		List []struct {
			ID      looseText `json:"template_id"`
			Title   looseText `json:"title"`
			Content looseText `json:"content"`
			Example looseText `json:"example"`
		} `json:"template_list"`
	}
	if err := x.into(&res, sdkErr); err != nil {
		return nil, err
	}
	list := make([]Template, 0, len(res.List))
	for _, t := range res.List {
		list = append(list, Template{ID: string(t.ID), Title: string(t.Title), Content: string(t.Content), Example: string(t.Example),
			Keywords: keywords(string(t.Content))})
	}
	return list, nil
}

var keywordForm = regexp.MustCompile(`\{\{(\w+)\.DATA\}\}`)

func keywords(content string) []string {
	var keys []string
	for _, m := range keywordForm.FindAllStringSubmatch(content, -1) {
		keys = append(keys, m[1])
	}
	return keys
}
