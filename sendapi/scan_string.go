package sendapi

import (
	"unicode"
	"unicode/utf16"
	"unicode/utf8"
)

// The functions here read the text of a JSON string, without its quotes, as the scanner has accepted it.

// decodeRune returns the first character of text and how many bytes it takes, escapes undone.
// Half of a surrogate pair alone, which JSON allows and Unicode does not, is utf8.RuneError.
func decodeRune(text []byte) (rune, int) {
	if text[0] != '\\' {
		return utf8.DecodeRune(text)
	}
	switch text[1] {
	case 'b':
		return '\b', 2
	case 'f':
		return '\f', 2
	case 'n':
		return '\n', 2
	case 'r':
		return '\r', 2
	case 't':
		return '\t', 2
	case 'u':
		r := hex4(text[2:])
		if !utf16.IsSurrogate(r) {
			return r, 6
		}
		if len(text) >= 12 && text[6] == '\\' && text[7] == 'u' {
			if pair := utf16.DecodeRune(r, hex4(text[8:])); pair != utf8.RuneError {
				return pair, 12
			}
		}
		return utf8.RuneError, 6
	}
	return rune(text[1]), 2
}

func hex4(text []byte) (r rune) {
	for _, c := range text[:4] {
		switch {
		case isDigit(c):
			c -= '0'
		case c >= 'a':
			c -= 'a' - 10
		default:
			c -= 'A' - 10
		}
		r = r<<4 | rune(c)
	}
	return r
}

// appendText appends text to dst with its escapes undone. It fails at half of a surrogate pair, which has no UTF-8.
func appendText(dst, text []byte) ([]byte, bool) {
	for len(text) > 0 {
		r, size := decodeRune(text)
		if r == utf8.RuneError && size == 6 && utf16.IsSurrogate(hex4(text[2:])) {
			return dst, false
		}
		dst = utf8.AppendRune(dst, r)
		text = text[size:]
	}
	return dst, true
}

// countRunes is the number of characters, that is Unicode code points, in text.
func countRunes(text []byte, escaped bool) int {
	if !escaped {
		return utf8.RuneCount(text)
	}
	count := 0
	for len(text) > 0 {
		_, size := decodeRune(text)
		text = text[size:]
		count++
	}
	return count
}

// isBlank reports whether text holds nothing but white space.
func isBlank(text []byte) bool {
	for len(text) > 0 {
		r, size := decodeRune(text)
		if !unicode.IsSpace(r) {
			return false
		}
		text = text[size:]
	}
	return true
}

// equals compares text with an ASCII word; with fold, letters of either case are the same.
func equals(text []byte, word string, fold bool) bool {
	if len(text) < len(word) {
		return false
	}
	for i := range len(word) {
		if len(text) == 0 {
			return false
		}
		r, size := rune(text[0]), 1
		if r == '\\' {
			r, size = decodeRune(text)
		}
		if w := rune(word[i]); r != w && !(fold && isLetter(w) && r^0x20 == w) {
			return false
		}
		text = text[size:]
	}
	return len(text) == 0
}

func isLetter(r rune) bool { return 'a' <= r && r <= 'z' || 'A' <= r && r <= 'Z' }

// hasLiquid reports whether text holds an opening of Liquid, "{{" or "{%".
//
// "{%" before a digit is no Liquid: a tag begins with a letter, a dash or a space, while a half-encoded URL such as
// https://example.com/?q={%22a%22:1} has a percent-encoded character there.
func hasLiquid(text []byte) bool {
	var last, beforeLast rune
	for len(text) > 0 {
		r, size := decodeRune(text)
		text = text[size:]
		if last == '{' && r == '{' || beforeLast == '{' && last == '%' && (r < '0' || r > '9') {
			return true
		}
		beforeLast, last = last, r
	}
	return beforeLast == '{' && last == '%'
}
