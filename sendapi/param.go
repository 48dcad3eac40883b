package sendapi

import (
	"regexp"
	"slices"
	"strings"
)

// Facebook names a faulty field inside its sentence, as in
//
//	(#100) The parameter message[attachment][payload] is required
//	(#100) Invalid keys "preview" were found in param "message".
//	(#100) Param [elements][0][title] must be a non-empty UTF-8 encoded string
//	(#105) param name_placeholder[buttons] has too many elements.
//
// The last two are of a template, whose members are named from its payload on (broidHQ/integrations#137, botman/botman#694).
// The rest of such a sentence may quote values. So the path is picked out piece by
// piece, each of them one of the names below or a short index; a path ends before
// the first piece that is not. Nothing is decided from it.
var (
	paramRoots = []string{
		"recipient", "message", "messaging_type", "tag", "notification_type", "sender_action",
		"persona_id", "reply_to", "thread_control", "payload", "appsecret_proof", "appsecret_time",
		"access_token",
	}
	paramParts = []string{
		"id", "user_ref", "comment_id", "post_id", "notification_messages_token",
		"one_time_notif_token", "phone_number", "name", "text", "metadata", "attachment", "type",
		"payload", "template", "template_type", "elements", "buttons", "quick_replies", "content_type",
		"title", "subtitle", "image_url", "default_action", "url", "is_reusable", "attachment_id",
		"media_type", "sticker_id", "language", "code", "components", "parameters", "mid",
	}

	// A path with brackets cannot be mistaken; a bare name, and a path from a
	// payload on, count only behind the word param, since "message" and "tag" are
	// words of the language.
	paramPieces = `(?:\[(?:` + strings.Join(paramParts, "|") + `|[0-9]{1,2})\])+`
	paramPath   = regexp.MustCompile(`\b(?:` + strings.Join(paramRoots, "|") + `)` + paramPieces)
	paramName   = regexp.MustCompile(`(?i:\bparam(?:eter)?) "?(?:name_placeholder)?(` + paramPieces + `|(?:` +
		strings.Join(slices.Concat(paramRoots, paramParts), "|") + `)\b)`)
)

// paramIn returns the request field that a sentence of Facebook's names, or "".
func paramIn(sentence string) string {
	if p := paramPath.FindString(sentence); p != "" {
		return p
	}
	if m := paramName.FindStringSubmatch(sentence); m != nil {
		return m[1]
	}
	return ""
}
