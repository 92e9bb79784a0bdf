package ledger

import (
	"encoding/binary"
	"errors"
	"time"
)

// A subscription is packed into one value of its user's hash, or two, each at most 64 bytes so that the hash stays a
// listpack (DECISIONS 1). Field 2c holds the state and the last six records; c is the template's code. Once the state
// has needed more than its eight bytes, field 2c holds five and field 2c+1 the one before.
//
//	state   1 byte kind + 8*status + 32 (closed follows) + 64 (reserved follows) + 128 (period follows)
//	        2 bytes free credits, 1 byte how many of them are unproven, 4 bytes time of the status' answer (Unix s)
//	        [4 bytes time of the latest closing] [2 bytes reserved, 1 byte of them unproven] [4 bytes period in s]
//	record  4 bytes time (Unix s), 1 byte cause + 32 (moved) + 64 (its credit is free) + 128 (paired), 4 bytes hash of the name
//	        a closing or voiding that moved: 2 bytes how many went, 2 bytes hash of the name
//
// All numbers are big-endian. The extension writes this; Go only reads it.
const (
	recordSize = 9
	moved      = 32  // the record changed the credits
	free       = 64  // the credit it granted is free
	paired     = 128 // it has met the record of the other source

	statusAccepted = 3 // of statuses
)

type cause byte

const (
	causePopupAccept cause = 1 + iota
	causePopupReject
	causeChangeReject
	causeClientAccept
	causeClientReject
	causeClientBan
	causeClientFilter
	causeSent
	causeReturned
	causeWeChat43101
	causeSettingsAccept
	causeSettingsReject
	causeSettingsOff
	causeChangeAccept
	causeNoted
	causeWeChat43107
	causeLateAccept // an accept that took back its client's credit: the user had closed the subscription after the tap
	causeSentElsewhere
)

var (
	kinds    = [...]Kind{Unknown, OneTime, LongTerm, RateLimited, Device}
	statuses = [...]string{"unknown", "rejected", "cancelled", "accepted"}
	causes   = [...]string{"", "popup_accept", "popup_reject", "change_reject", "client_accept", "client_reject", "client_ban",
		"client_filter", "sent", "returned", "wechat_43101", CauseSettingsAccept, CauseSettingsReject, "settings_off", "change_accept",
		"noted", "wechat_43107", "popup_accept", "sent_elsewhere"}
)

// causeStatus is what each cause, from 1 on, says about the status: 0 nothing, else its number.
var causeStatus = [...]int{3, 1, 2, 3, 1, 0, 0, 0, 0, 0, 3, 1, 2, 3, 0, 0, 3, 0}

// Causes of movements by what a client's settings showed, as replies and statements name them.
const (
	CauseSettingsAccept = "settings_accept"
	CauseSettingsReject = "settings_reject"
)

func kindNumber(k Kind) byte {
	for i, known := range kinds {
		if k == known {
			return byte(i)
		}
	}
	return 0
}

// open: a long-term subscription whose last answer was an accept.
func open(kind, status int) bool { return kind >= 2 && status == statusAccepted }

var errPacked = errors.New("ledger: a subscription is damaged")

// unpack reads a subscription's two values into st.
func unpack(near, far string, st *Statement) error {
	b := []byte(near)
	if len(b) < 8 || len(far)%recordSize != 0 {
		return errPacked
	}
	f := b[0]
	kind, status := int(f%8), int(f/8%4)
	if kind >= len(kinds) {
		return errPacked
	}
	st.Kind, st.Status, st.LongTerm = kinds[kind], statuses[status], open(kind, status)
	st.Credits, st.Unproven = int(binary.BigEndian.Uint16(b[1:])), int(b[3])
	b = b[8:]
	for _, part := range [...]struct {
		bit  byte
		size int
	}{{32, 4}, {64, 3}, {128, 4}} {
		if f&part.bit == 0 {
			continue
		}
		if len(b) < part.size {
			return errPacked
		}
		if part.bit == 64 {
			st.Reserved = int(binary.BigEndian.Uint16(b))
		}
		b = b[part.size:]
	}
	if len(b)%recordSize != 0 {
		return errPacked
	}
	records := append([]byte(far), b...)
	st.History = make([]Movement, len(records)/recordSize)
	balance := st.Credits + st.Reserved
	for i := len(st.History) - 1; i >= 0; i-- { // the last balance is known, the others follow from it
		r := records[i*recordSize:]
		c := int(r[4] % 32)
		if c >= len(causes) {
			return errPacked
		}
		m := Movement{At: time.Unix(int64(binary.BigEndian.Uint32(r)), 0), Cause: causes[c], Delta: delta(cause(c), r), Balance: balance}
		balance -= m.Delta
		st.History[i] = m
		if m.At.After(st.UpdatedAt) {
			st.UpdatedAt = m.At
		}
	}
	return nil
}

// delta is what a record did to the balance.
func delta(c cause, r []byte) int {
	if r[4]&moved == 0 {
		return 0
	}
	switch c {
	case causePopupAccept, causeClientAccept:
		return 1
	case causeSent, causeReturned, causeLateAccept, causeSentElsewhere:
		return -1
	}
	return -int(binary.BigEndian.Uint16(r[5:]))
}
