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
	does, doesZH := row.Does()
	switch {
	case *asJSON:
		err = json.NewEncoder(p.stdout).Encode(struct {
			Code       int             `json:"code"`
			Name       string          `json:"name"`
			Meaning    string          `json:"meaning"`
			MeaningZH  string          `json:"meaning_zh"`
			Cause      string          `json:"cause"`
			CauseZH    string          `json:"cause_zh"`
			Cure       string          `json:"cure"`
			CureZH     string          `json:"cure_zh"`
			Reaction   wechat.Reaction `json:"reaction"`
			Reacts     string          `json:"reacts"`
			ReactsZH   string          `json:"reacts_zh"`
			Doc        string          `json:"doc"`
			InTheTable bool            `json:"known"`
		}{row.Code, row.Name, row.Meaning, row.MeaningZH, row.Cause, row.CauseZH, row.Cure, row.CureZH, row.Reaction, does, doesZH, row.Doc, known(row)})
	case *lang == "zh":
		_, err = fmt.Fprintf(p.stdout, "%d %s\n含义:%s\n原因:%s\n处理:%s\n网关:%s\n文档:%s\n", row.Code, row.Name, row.MeaningZH, row.CauseZH, row.CureZH, doesZH, row.Doc)
	default:
		_, err = fmt.Fprintf(p.stdout, "%d %s\nmeaning: %s\ncause:   %s\ncure:    %s\ngateway: %s\nsee:     %s\n", row.Code, row.Name, row.Meaning, row.Cause, row.Cure, does, row.Doc)
	}
	if err == nil && !known(row) {
		err = errSilent
	}
	return err
}

func known(row wechat.Errcode) bool { return row.Reaction != wechat.ReactionUnknown }
