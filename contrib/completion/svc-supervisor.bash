# Completion of svc-supervisor for bash: commands, options, and names of containers.
# shellcheck shell=bash

_svc_supervisor() {
	local words=("${COMP_WORDS[@]:0:COMP_CWORD}") current=${COMP_WORDS[COMP_CWORD]}
	# After "--" the program would run the command instead of completing it.
	[[ " ${words[*]} $current " != *" -- "* ]] || return 0
	if [[ $current == -* ]]; then
		words+=("$current")
	fi
	mapfile -t COMPREPLY < <(
		compgen -W "$("${words[@]}" --generate-bash-completion 2>/dev/null)" -- "$current"
	)
}

complete -o bashdefault -o default -F _svc_supervisor svc-supervisor
