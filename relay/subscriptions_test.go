package relay

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/wxrelay/wxrelay/scripts/slow"
)

// Every form in which clients have sent wx.getSetting's answer.
func TestReadSettings(t *testing.T) {
	for body, want := range map[string]string{
		`{"mainSwitch":true,"itemSettings":{"T1":"accept","T2":"reject"}}`: "on T1=accept T2=reject",
		`{"mainSwitch":false,"itemSettings":{"T1":"accept"}}`:              "off T1=accept",
		`{"mainSwitch":true}`:                     "on",
		`{"mainSwitch":true,"itemSettings":null}`: "on",
		`{"itemSettings":{}}`:                     "?",
		`{"errMsg":"getSetting:ok","subscriptionsSetting":{"mainSwitch":true,"itemSettings":{"T":"ban"}}}`: "on T=ban",
		`{"mainSwitch":true,"T1":"accept","T2":"acceptWithAudio"}`:                                         "on T1=accept T2=acceptWithAudio",
		`{"subscriptionsSetting":{"mainSwitch":false,"T1":"accept"}}`:                                      "off T1=accept",
		`{"T1":"reject","errMsg":"getSetting:ok"}`:                                                         "? T1=reject",
		`{"mainSwitch":true,"itemSettings":{"T":"perhaps","U":1}}`:                                         "on",
		`{}`: "malformed", `[]`: "malformed", `null`: "malformed", `"x"`: "malformed", `{"mainSwitch":"yes"}`: "malformed",
		`{"itemSettings":[]}`: "malformed", `{"subscriptionsSetting":{}}`: "malformed", `{"subscriptionsSetting":1}`: "malformed",
		`{"subscriptionsSetting":{"subscriptionsSetting":{"mainSwitch":true}}}`: "malformed", `{"authSetting":{}}`: "malformed",
	} {
		in, err := readSettings([]byte(body))
		got := "malformed"
		if err == nil {
			got = map[bool]string{true: "on", false: "off"}[in.MainSwitch == nil || *in.MainSwitch]
			if in.MainSwitch == nil {
				got = "?"
			}
			ids, words, err := choices(in.ItemSettings, maxTemplatesKept, nil)
			if err != nil {
				t.Fatal(err)
			}
			for _, id := range ids {
				got += " " + id + "=" + words[id]
			}
		}
		if got != want {
			t.Errorf("%s: %s, want %s", body, got, want)
		}
	}
}

// A body that nests as deep as it may be long is read twice, not once a level.
func TestReadSettingsNested(t *testing.T) {
	const wrap = `{"subscriptionsSetting":`
	body := strings.Repeat(wrap, 9000) + `{"mainSwitch":true}` + strings.Repeat("}", 9000)
	began := time.Now()
	if _, err := readSettings([]byte(body)); err == nil {
		t.Error("taken")
	}
	slow.Within(t, began, time.Second)
}

// A report names few templates, settings as many as an account may have; the answer comes in one order.
func TestChoices(t *testing.T) {
	body := map[bool][]byte{}
	for _, n := range []int{50, 51} {
		var items []string
		for i := range n {
			items = append(items, fmt.Sprintf(`"T%02d":"accept"`, i))
		}
		body[n == 50] = []byte(`{"mainSwitch":true,"itemSettings":{` + strings.Join(items, ",") + `}}`)
	}
	in, err := readSettings(body[true])
	if err != nil {
		t.Fatal(err)
	}
	if ids, _, err := choices(in.ItemSettings, maxTemplatesKept, nil); err != nil || len(ids) != 50 || !slices.IsSorted(ids) {
		t.Errorf("%v %v", ids, err)
	}
	if _, _, err := choices(in.ItemSettings, maxTemplatesPerReport, nil); err == nil {
		t.Error("a report of 50 was taken")
	}
	if in, err = readSettings(body[false]); err != nil {
		t.Fatal(err)
	}
	if _, _, err := choices(in.ItemSettings, maxTemplatesKept, nil); err == nil {
		t.Error("51 were taken")
	}
}
