package console

import (
	"strconv"
	"time"

	"github.com/wxrelay/wxrelay/relay"
)

// Tag is a state as the pages show it.
type Tag struct{ Tone, Word string }

// TagOf is a state with its colour, in the reader's language.
func (f *Frame) TagOf(state string) Tag { return Tag{f.Tone(state), f.Word(state)} }

// Num is a number that may not be there; 0 = it is not.
func (f *Frame) Num(n *int) int {
	if n == nil {
		return 0
	}
	return *n
}

// Link is the address of another page.
type Link struct{ Link, Text string }

// Pager leads to the next page of a list; nil at its end.
func (f *Frame) Pager(next *string) *Link {
	if next == nil {
		return nil
	}
	return &Link{f.Older(next), f.T("Next page")}
}

// Seconds is a time in seconds; 0 = there was nothing to measure.
func (f *Frame) Seconds(s float64) string {
	return f.Span(time.Duration(s * float64(time.Second)))
}

// Says is what is the matter with something that needs somebody.
func (p *Overview) Says(n Need) string {
	number := strconv.FormatInt(n.Count, 10)
	switch n.Kind {
	case "disabled":
		return p.Choose("is disabled; "+number+" deliveries wait. Mend the receiver, then enable it.", "已停用，"+number+" 个投递在等待。请修复接收方后启用。")
	case "benched":
		return p.Choose("is benched after failures; "+number+" deliveries wait. It is probed by itself.", "连续失败，已熔断，"+number+" 个投递在等待。系统会自动探测。")
	case "probing":
		return p.Choose("is being probed; "+number+" deliveries wait.", "正在探测，"+number+" 个投递在等待。")
	case "paused":
		what := p.Word(n.Detail)
		if n.Detail == "" {
			what = p.T("The whole app")
		}
		return p.Choose("is paused by WeChat's refusal ("+what+"). The errcode says what to do:", "因微信拒绝而暂停（"+what+"），处理方法见错误码：")
	case "token":
		return p.Choose("has no valid access_token any more. See its token log.", "的 access_token 已失效，请查看其 token 记录。")
	case "lag":
		s, _ := strconv.Atoi(n.Detail)
		span := p.Span(time.Duration(s) * time.Second)
		return p.Choose(number+" jobs are due; the oldest for "+span+".", number+" 个任务已到期，最久已等待 "+span+"。")
	case "buried":
		return p.Choose(number+" jobs were given up. Look at the cause, then replay them.", number+" 个任务已放弃。请查明原因后重放。")
	}
	return n.Detail
}

// WhyWaits is why a message is not at its end.
func (m *Message) WhyWaits(w *relay.Waiting) string {
	until := ""
	if w.Until != nil {
		until = w.Until.In(beijing).Format("2006-01-02 15:04:05")
	}
	text := map[string][2]string{
		relay.WaitsTime:   {"Its partner asked to send it later.", "合作方指定了稍后发送。"},
		relay.WaitsCredit: {"The user has no credit for it. It goes as soon as the user accepts again.", "用户没有可用的订阅次数，用户再次允许后立即发送。"},
		relay.WaitsPause:  {"WeChat refuses the app or this channel as a whole; one message is tried when the pause ends.", "微信整体拒绝该应用或该渠道，暂停结束后会先尝试一条。"},
		relay.WaitsWorker: {"Others are before it, or it is tried again after a pause.", "前面还有其他消息，或稍后重试。"},
		relay.WaitsReport: {"WeChat's answer did not come. WeChat's report settles it, or a deadline; it is not sent twice.", "没有收到微信的应答。以微信的下发报告或截止时间为准，不会重复发送。"},
		relay.WaitsAnswer: {"The call is with WeChat.", "正在等待微信应答。"},
	}[w.For]
	out := m.Choose(text[0], text[1])
	if until != "" {
		out += " " + m.Choose("Until "+until+" (Beijing time).", "截止 "+until+"（北京时间）。")
	}
	return out
}

// LastAnswer is what the endpoint said last.
func (f *Frame) LastAnswer(d relay.Delivery) string {
	if len(d.Attempts) == 0 {
		return "–"
	}
	a := d.Attempts[len(d.Attempts)-1]
	switch {
	case a.Status != nil:
		return strconv.Itoa(*a.Status) + " · " + strconv.FormatInt(a.TookMS, 10) + " ms"
	case a.Error != nil:
		return f.T("no answer")
	}
	return "–"
}

// AttemptTone is the colour of an attempt.
func (f *Frame) AttemptTone(a relay.DeliveryAttempt) string {
	if a.Status != nil && *a.Status/100 == 2 {
		return "good"
	}
	return "bad"
}

// Line is a happening as the tail shows it.
type Line struct {
	Number                                        uint64
	Stamp, Clock, KindWord, Who, What, Tone, Word string
}

// Happens is a happening in the reader's language.
func (f *Frame) Happens(h Happening) Line {
	l := Line{Number: h.Number, Stamp: h.At.UTC().Format(time.RFC3339), Clock: h.At.In(beijing).Format("15:04:05"), KindWord: f.Word("kind:" + h.Kind), Who: h.Who,
		What: h.What, Tone: f.Tone(h.Result), Word: f.Word(h.Result)}
	if h.Kind == "message" {
		l.What = f.Word(h.What)
	}
	if h.Bad {
		l.Tone = "bad"
	}
	return l
}
