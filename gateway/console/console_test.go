package console

import "testing"

func TestProofread(t *testing.T) {
	if err := proofread(); err != nil {
		t.Fatal(err)
	}
}
