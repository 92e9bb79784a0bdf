package callback

import (
	"bytes"
	"encoding/json"
	"encoding/xml"
	"io"
	"reflect"
	"strings"
)

// The oracles read with the standard library and then tell the same reader the same things. They say nothing (false)
// about what they would not read themselves: the scanners are more lenient.

type node struct {
	name, text string
	kids       []node
	cdata      bool // its content begins with CDATA
}

func (n *node) tell(r *reader) {
	if len(n.kids) == 0 {
		r.leaf(n.name, trim(n.text))
		return
	}
	r.enter(n.name)
	for i := range n.kids {
		n.kids[i].tell(r)
	}
	r.leave()
}

func oracleXML(raw []byte) (Event, bool) {
	dec := xml.NewDecoder(bytes.NewReader(raw))
	top := []node{{}}
	depth := 0
	for {
		tok, err := dec.Token()
		if err == io.EOF {
			break
		}
		if err != nil {
			return Event{}, false
		}
		switch tok := tok.(type) {
		case xml.StartElement:
			if depth++; depth > maxDepth {
				return Event{}, false
			}
			name := tok.Name.Local
			if tok.Name.Space != "" {
				name = tok.Name.Space + ":" + name
			}
			top = append(top, node{name: name, cdata: bytes.HasPrefix(trimLeft(raw[dec.InputOffset():]), []byte(cdataOpen))})
		case xml.EndElement:
			depth--
			n := top[len(top)-1]
			if n.cdata && len(n.kids) > 0 {
				return Event{}, false // a text to the scanner
			}
			top = top[:len(top)-1]
			top[len(top)-1].kids = append(top[len(top)-1].kids, n)
		case xml.CharData:
			top[len(top)-1].text += string(tok)
		case xml.Directive:
			return Event{}, false
		case xml.Comment:
			if top[len(top)-1].cdata && bytes.Contains(tok, []byte(cdataClose)) {
				return Event{}, false // a text to the scanner
			}
		case xml.ProcInst:
			if top[len(top)-1].cdata && bytes.Contains(tok.Inst, []byte(cdataClose)) {
				return Event{}, false
			}
		}
	}
	if len(top) != 1 || len(top[0].kids) != 1 || trim(top[0].text) != "" {
		return Event{}, false
	}
	var ev Event
	r := newReader(&ev)
	defer r.free()
	r.xml = true
	for i := range top[0].kids[0].kids {
		top[0].kids[0].kids[i].tell(r)
	}
	r.finish()
	return ev, true
}

func oracleJSON(raw []byte) (Event, bool) {
	if !json.Valid(raw) {
		return Event{}, false
	}
	dec := json.NewDecoder(bytes.NewReader(raw))
	dec.UseNumber()
	if tok, err := dec.Token(); err != nil || tok != json.Delim('{') {
		return Event{}, false
	}
	var ev Event
	r := newReader(&ev)
	defer r.free()
	if !jsonMembers(dec, r, 1) {
		return Event{}, false
	}
	r.finish()
	return ev, true
}

// jsonMembers tells the reader an object's members; it tells a nil reader nothing.
func jsonMembers(dec *json.Decoder, r *reader, depth int) bool {
	seen := make(map[string]bool)
	for dec.More() {
		tok, err := dec.Token()
		if err != nil {
			return false
		}
		key, to := trim(tok.(string)), r
		if seen[key] {
			to = nil
		}
		null, ok := jsonValue(dec, to, key, depth)
		if !ok {
			return false
		}
		seen[key] = seen[key] || !null
	}
	_, err := dec.Token()
	return err == nil
}

func jsonValue(dec *json.Decoder, r *reader, key string, depth int) (null, ok bool) {
	tok, err := dec.Token()
	if err != nil || depth > maxDepth {
		return false, false
	}
	leaf := func(text string) {
		if r != nil {
			r.leaf(key, text)
		}
	}
	switch tok := tok.(type) {
	case json.Delim:
		if tok == '{' {
			if r != nil {
				r.enter(key)
				defer r.leave()
			}
			return false, jsonMembers(dec, r, depth+1)
		}
		for dec.More() {
			if _, ok := jsonValue(dec, r, key, depth+1); !ok {
				return false, false
			}
		}
		_, err := dec.Token()
		return false, err == nil
	case string:
		leaf(tok)
	case json.Number:
		leaf(tok.String())
	case bool:
		leaf(map[bool]string{true: "true", false: "false"}[tok])
	default:
		return true, true
	}
	return false, true
}

// trimmed trims every text in the event: the XML oracle cannot see which blanks stood in CDATA.
func trimmed(ev Event) Event {
	trimValue(reflect.ValueOf(&ev).Elem())
	return ev
}

func trimValue(v reflect.Value) {
	switch v.Kind() {
	case reflect.String:
		v.SetString(trim(v.String()))
	case reflect.Pointer:
		if !v.IsNil() {
			trimValue(v.Elem())
		}
	case reflect.Slice:
		for i := range v.Len() {
			trimValue(v.Index(i))
		}
	case reflect.Struct:
		for i := range v.NumField() {
			trimValue(v.Field(i))
		}
	}
}

// wide is everything an Event can hold, as encoding/xml and encoding/json read it: the oracle's task in the
// benchmarks is the scanners' task. Official accounts' SDKs read every push into such a struct.
type wide struct {
	XMLName                                           xml.Name `xml:"xml" json:"-"`
	ToUserName, FromUserName, OpenID                  string
	CreateTime                                        int64
	MsgType, Event, MsgId, MsgID, Status, SessionFrom string
	EventKey, Ticket                                  string
	Content, PicUrl, MediaId, ThumbMediaId, ThumbUrl  string
	Title, AppId, PagePath, Format, Recognition       string
	LocationX                                         string `xml:"Location_X"`
	LocationY                                         string `xml:"Location_Y"`
	Scale, Label, Description, Url                    string
	AppID, RevokeInfo, PluginID, OpenPID              string
	NotifyCode                                        string   `xml:"notify_code"`
	NotifyType                                        string   `xml:"notify_type"`
	CardStatus                                        string   `xml:"card_status"`
	FailRet                                           string   `xml:"fail_ret"`
	FailMsg                                           string   `xml:"fail_msg"`
	EventType                                         string   `xml:"event_type"`
	PunishID                                          string   `xml:"punish_id"`
	PunishTime                                        int64    `xml:"punish_time"`
	IllegalReason                                     string   `xml:"illegal_reason"`
	IllegalContent                                    []string `xml:"illegal_content"`
	RuleURL                                           string   `xml:"rule_url"`
	RuleName                                          string   `xml:"rule_name"`
	AdjustGuideURL                                    string   `xml:"adjust_guide_url"`
	TraceID                                           string   `xml:"trace_id"`
	Version                                           string   `xml:"version"`
	Errcode                                           string   `xml:"errcode"`
	Errmsg                                            string   `xml:"errmsg"`
	TransactionID                                     string   `xml:"transaction_id"`
	MerchantID                                        string   `xml:"merchant_id"`
	SubMerchantID                                     string   `xml:"sub_merchant_id"`
	MerchantTradeNo                                   string   `xml:"merchant_trade_no"`
	PayTime                                           int64    `xml:"pay_time"`
	ShippedTime                                       int64    `xml:"shipped_time"`
	EstimatedSettlementTime                           int64    `xml:"estimated_settlement_time"`
	SettlementTime                                    int64    `xml:"settlement_time"`
	Msg                                               string   `xml:"msg"`
	OpenId, OutTradeNo, Env, InfoType                 string
	ComponentVerifyTicket, AuthorizerAppid            string
	AuthorizationCode, PreAuthCode                    string
	AuthorizationCodeExpiredTime                      int64
	GoodsInfo, CoinInfo                               struct{ ProductId, ZoneId, Quantity, OrigPrice, ActualPrice, Attach string }
	WeChatPayInfo                                     struct{ MchOrderNo, TransactionId, PaidTime string }
	MiniGame                                          struct{ Payload, PayEventSig, IsMock string }
	SubscribeMsgPopupEvent, SubscribeMsgChangeEvent   struct{ List []wideEntry } `json:"-"`
	SubscribeMsgSentEvent                             struct{ List []wideEntry } `json:"-"`
	List                                              []wideEntry
}

type wideEntry struct{ TemplateId, SubscribeStatusString, PopupScene, MsgID, ErrorCode, ErrorStatus string }

func (w *wide) event() Event {
	ev := Event{ToUserName: w.ToUserName, FromUserName: w.FromUserName, OpenID: w.FromUserName, CreateTime: w.CreateTime,
		MsgType: w.MsgType, Event: w.Event, MsgID: strings.Join([]string{w.MsgId, w.MsgID}, "")}
	for _, s := range append(w.List, w.SubscribeMsgPopupEvent.List...) {
		ev.Subscribes = append(ev.Subscribes, Subscribe{s.TemplateId, s.SubscribeStatusString, s.PopupScene, s.MsgID, s.ErrorCode, s.ErrorStatus})
	}
	return ev
}
