package cli

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"testing"
)

func TestExitCodes(t *testing.T) {
	errBroken := errors.New("broken")
	for _, c := range []struct {
		err  error
		code int
		says string
	}{
		{nil, 0, ""},
		{errBroken, 1, "brazier: broken\n"},
		{Silent(errBroken), 1, ""},
		{Usage(errBroken), 2, "brazier: broken\n"},
		{fmt.Errorf("open: %w", Usage(errBroken)), 2, "brazier: open: broken\n"},
		{ErrUndrained, 3, "brazier: stopped before everything was drained: what was in flight may be sent again\n"},
		{fmt.Errorf("%w: ingress: %w", ErrUndrained, errBroken), 3, "brazier: stopped before everything was drained: what was in flight may be sent again: ingress: broken\n"},
		{fmt.Errorf("ingress ended: %w", context.Canceled), 1, "brazier: ingress ended: context canceled\n"},
	} {
		var out bytes.Buffer
		Report(c.err, &out)
		if code := ExitCode(c.err); code != c.code || out.String() != c.says {
			t.Errorf("%v: code %d, want %d; says %q, want %q", c.err, code, c.code, out.String(), c.says)
		}
	}
}
