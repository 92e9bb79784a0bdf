package main

import (
	"encoding/json"
	"flag"
	"fmt"
	"strconv"

	"github.com/wxrelay/wxrelay/relay/wechat"
)

var explainCommand = command{
	name: "explain", args: "CODE [-lang en|zh] [-json]", summary: "one errcode of WeChat: meaning, cause, cure, what the gateway does about it",
	help: `
The same table the gateway acts by. Exit 0, or 1 when the table does not have the code.`,
	run: explain,
}

// reactions say what the gateway does about a code: English, Chinese.
var reactions = map[wechat.Reaction][2]string{
	wechat.ReactionNone:        {"nothing: it has no consequence", "不处理:没有影响"},
	wechat.ReactionRetry:       {"tries again with growing pauses, few times; a send whose outcome is open is not repeated", "间隔递增地重试几次;结果未知的发送不会重复"},
	wechat.ReactionToken:       {"fetches another access_token and repeats the call once", "换取新的 access_token 并重试一次"},
	wechat.ReactionPermanent:   {"gives up: the same request will never be taken", "放弃:同样的请求不会被接受"},
	wechat.ReactionLedger:      {"gives up, and corrects the credits it had counted", "放弃,并更正已记的授权次数"},
	wechat.ReactionBanned:      {"gives up, drops the credits, and asks for the operator", "放弃,作废授权次数,并提醒运维"},
	wechat.ReactionConfig:      {"pauses the app and asks for the operator", "暂停该应用,并提醒运维"},
	wechat.ReactionQuotaDay:    {"waits for the next day (Beijing time)", "等到次日(北京时间)"},
	wechat.ReactionQuotaMinute: {"waits for the next minute", "等到下一分钟"},
	wechat.ReactionSerial:      {"sends to this user one message after the other, again shortly", "对该用户逐条发送,稍后再试"},
	wechat.ReactionFormID:      {"drops this form_id and takes the next", "丢弃该 form_id,取下一个"},
	wechat.ReactionRetired:     {"gives up: WeChat has withdrawn this interface", "放弃:微信已下线该接口"},
	wechat.ReactionWait:        {"tries again later: nothing has been done", "稍后再试:微信什么也没做"},
	wechat.ReactionUnknown:     {"gives up and logs it", "放弃并记入日志"},
}

func explain(p *program, fs *flag.FlagSet, args []string) error {
	lang := fs.String("lang", "en", "en or zh")
	asJSON := fs.Bool("json", false, "as JSON, in both languages")
	words, err := parse(fs, args, "an errcode")
	if err != nil {
		return err
	}
	code, err := strconv.Atoi(words[0])
	if err != nil {
		return usagef("%q is no errcode such as 43101", words[0])
	}
	if *lang != "en" && *lang != "zh" {
		return usagef("-lang %q: en or zh", *lang)
	}
	row := wechat.Lookup(code)
	does := reactions[row.Reaction]
	switch {
	case *asJSON:
		err = json.NewEncoder(p.stdout).Encode(struct {
			Code       int             `json:"code"`
			Name       string          `json:"name"`
			Meaning    string          `json:"meaning"`
			MeaningZH  string          `json:"meaning_zh"`
			Cure       string          `json:"cure"`
			CureZH     string          `json:"cure_zh"`
			Reaction   wechat.Reaction `json:"reaction"`
			Reacts     string          `json:"reacts"`
			ReactsZH   string          `json:"reacts_zh"`
			Doc        string          `json:"doc"`
			InTheTable bool            `json:"known"`
		}{row.Code, row.Name, row.Meaning, row.MeaningZH, row.Cure, row.CureZH, row.Reaction, does[0], does[1], row.Doc, known(row)})
	case *lang == "zh":
		_, err = fmt.Fprintf(p.stdout, "%d %s\n含义:%s\n处理:%s\n网关:%s\n文档:%s\n", row.Code, row.Name, row.MeaningZH, row.CureZH, does[1], row.Doc)
	default:
		_, err = fmt.Fprintf(p.stdout, "%d %s\nmeaning: %s\ncure:    %s\ngateway: %s\nsee:     %s\n", row.Code, row.Name, row.Meaning, row.Cure, does[0], row.Doc)
	}
	if err == nil && !known(row) {
		err = errSilent
	}
	return err
}

func known(row wechat.Errcode) bool { return row.Reaction != wechat.ReactionUnknown }
