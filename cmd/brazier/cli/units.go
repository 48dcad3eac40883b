package cli

import (
	"fmt"
	"math"
	"reflect"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/alecthomas/kong"
)

// Units has kong read every time.Duration with ParseDuration.
func Units() kong.Option {
	return kong.TypeMapper(reflect.TypeFor[time.Duration](), kong.MapperFunc(func(ctx *kong.DecodeContext, target reflect.Value) error {
		var text string
		if err := ctx.Scan.PopValueInto("duration", &text); err != nil {
			return err
		}
		d, err := ParseDuration(text)
		if err != nil {
			return err
		}
		target.SetInt(int64(d))
		return nil
	}))
}

var daysAndWeeks = regexp.MustCompile(`[0-9]+(\.[0-9]+)?[dw]`)

// ParseDuration is time.ParseDuration with two more units: d is 24 hours, w is 7 days. They may stand before others, as in
// 1w2d12h.
func ParseDuration(text string) (time.Duration, error) {
	wrong := fmt.Errorf("must be a time such as 90s, 2h, 3d or 1w (got %q)", text)
	hours := daysAndWeeks.ReplaceAllStringFunc(text, func(part string) string {
		n, err := strconv.ParseFloat(part[:len(part)-1], 64)
		if err != nil {
			return part
		}
		n *= 24
		if strings.HasSuffix(part, "w") {
			n *= 7
		}
		return strconv.FormatFloat(n, 'f', -1, 64) + "h"
	})
	d, err := time.ParseDuration(hours)
	if err != nil {
		return 0, wrong
	}
	return d, nil
}

// Size is a number of bytes.
type Size int64

// sizeUnits has the longest names first: each ends in a shorter one.
var sizeUnits = []struct {
	name  string
	bytes float64
}{{"KiB", 1 << 10}, {"MiB", 1 << 20}, {"GiB", 1 << 30}, {"TiB", 1 << 40}, {"KB", 1e3}, {"MB", 1e6}, {"GB", 1e9}, {"TB", 1e12}, {"B", 1}}

// UnmarshalText reads a number of bytes, or of another unit such as KiB, MB or GiB.
func (s *Size) UnmarshalText(text []byte) error {
	number, unit := string(text), 1.0
	for _, u := range sizeUnits {
		if before, ok := strings.CutSuffix(number, u.name); ok {
			number, unit = strings.TrimSpace(before), u.bytes
			break
		}
	}
	if n, err := strconv.ParseInt(number, 10, 64); err == nil && unit == 1 {
		*s = Size(n)
		return nil
	}
	n, err := strconv.ParseFloat(number, 64)
	if err != nil || !(math.Abs(n*unit) < math.MaxInt64/2) {
		return fmt.Errorf("must be a size such as 65536, 256KiB, 500MB or 10GiB (got %q)", text)
	}
	*s = Size(n * unit)
	return nil
}

// String returns the size in the largest of KiB, MiB, GiB and TiB in which it is a whole number, else in bytes.
func (s Size) String() string {
	n, unit := int64(s), ""
	for _, larger := range []string{"KiB", "MiB", "GiB", "TiB"} {
		if n == 0 || n%1024 != 0 {
			break
		}
		n, unit = n/1024, larger
	}
	return strconv.FormatInt(n, 10) + unit
}
