package sendapi

import "testing"

func TestSentences(t *testing.T) {
	t.Parallel()
	for _, c := range Classes() {
		if n := len(c.Sentence()); n == 0 || n > 255 {
			t.Errorf("the sentence of %s has %d characters", c, n)
		}
	}
	if s := Class("other").Sentence(); s != "" {
		t.Errorf("an unknown class has the sentence %q", s)
	}
}
