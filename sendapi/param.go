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
// The last two name a member of a template by its path below the payload (broidHQ/integrations#137, botman/botman#694).
// The rest of such a sentence may quote values. So only known names and short indexes
// are taken from the path, up to the first part that is neither. Nothing is decided
// from the path.
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
	// payload on, count only behind "param" or "parameter", since "message" and "tag"
	// are ordinary English too.
	paramPieces = `(?:\[(?:` + strings.Join(paramParts, "|") + `|[0-9]{1,2})\])+`
	paramPath   = regexp.MustCompile(`\b(?:` + strings.Join(paramRoots, "|") + `)` + paramPieces)
	paramName   = regexp.MustCompile(`(?i:\bparam(?:eter)?) "?(?:name_placeholder)?(` + paramPieces + `|(?:` +
		strings.Join(slices.Concat(paramRoots, paramParts), "|") + `)\b)`)
)

// paramIn returns the field of the request that a sentence of Facebook's names, or "".
func paramIn(sentence string) string {
	if p := paramPath.FindString(sentence); p != "" {
		return p
	}
	if m := paramName.FindStringSubmatch(sentence); m != nil {
		return m[1]
	}
	return ""
}
