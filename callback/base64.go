package callback

import (
	"encoding/base64"
	"encoding/binary"
)

// sextets are base64's characters, shifted to where the four of a group stand; wrongSextet for all others.
var sextets = func() (t [4][256]uint32) {
	const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
	for i := range t {
		for c := range t[i] {
			t[i][c] = wrongSextet
		}
		for v, c := range []byte(alphabet) {
			t[i][c] = uint32(v) << (18 - 6*i)
		}
	}
	return t
}()

const wrongSextet = 1 << 31

// decode64 is base64.StdEncoding.Decode in half the time: eight characters a step, and the standard library's for the
// end with its padding. dst needs base64.StdEncoding.DecodedLen(len(src)) bytes. A line break is a fault.
func decode64(dst, src []byte) (n int, ok bool) {
	var seen uint32
	for len(src) >= 12 && len(dst) >= 8 {
		s := src[:8:8]
		x := sextets[0][s[0]] | sextets[1][s[1]] | sextets[2][s[2]] | sextets[3][s[3]]
		y := sextets[0][s[4]] | sextets[1][s[5]] | sextets[2][s[6]] | sextets[3][s[7]]
		seen |= x | y
		binary.BigEndian.PutUint64(dst, uint64(x)<<40|uint64(y)<<16)
		src, dst, n = src[8:], dst[6:], n+6
	}
	for _, c := range src {
		if c == '\n' || c == '\r' { // which the standard library passes over
			return n, false
		}
	}
	m, err := base64.StdEncoding.Decode(dst, src)
	return n + m, err == nil && seen&wrongSextet == 0
}
