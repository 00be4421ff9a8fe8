# campaigns.sh: sourced behind common.sh: one line in tests/CAMPAIGNS.md for each campaign that was run.

# campaign_commit PATH...: the commit, with a + when these differ from it.
campaign_commit() {
	local commit
	commit=$(git -C "$ROOT" rev-parse --short HEAD 2>/dev/null || echo unknown)
	[ -z "$(git -C "$ROOT" status --porcelain -- "$@" 2>/dev/null)" ] || commit=$commit+
	echo "$commit"
}
# campaign_note WHAT RANGE COUNT SECONDS VIOLATIONS [COMMIT]
campaign_note() {
	local file=$ROOT/tests/CAMPAIGNS.md
	if [ ! -f "$file" ]; then
		printf '# Campaigns\n\nHeavier runs than scripts/test does, one line each; scripts/campaign, scripts/crash and others append with --record.\n\n' >"$file"
		printf '| date | commit | what | seeds or runs | count | seconds | violations |\n|---|---|---|---|---|---|---|\n' >>"$file"
	fi
	printf '| %s | %s | %s | %s | %s | %s | %s |\n' "$(date -u +%Y-%m-%d)" "${6:-$(campaign_commit store fs cli)}" "$1" "$2" "$3" "$4" "$5" >>"$file"
}
