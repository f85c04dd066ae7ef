/** What a shell needs to complete our command lines: it asks `lockstep __complete` with the line up to the cursor. */

export const SHELLS = ['bash', 'zsh', 'fish'] as const;
export type Shell = (typeof SHELLS)[number];

/** The answer that leaves the names of files to the shell. */
export const FILES_MARK = ':files';

const bash = `# lockstep completion for bash; put this into ~/.bashrc:  source <(lockstep completion bash)
_lockstep() {
  local line
  COMPREPLY=()
  while IFS= read -r line; do
    if [[ $line == '${FILES_MARK}' ]]; then
      compopt -o default
      return
    fi
    COMPREPLY+=("\${line%%$'\\t'*}")
  done < <("$1" __complete "\${COMP_LINE:0:COMP_POINT}" 2>/dev/null)
}
complete -F _lockstep lockstep
`;

const zsh = `#compdef lockstep
# lockstep completion for zsh; put this into ~/.zshrc after compinit:  source <(lockstep completion zsh)
_lockstep() {
  local line
  local -a candidates
  while IFS= read -r line; do
    if [[ $line == '${FILES_MARK}' ]]; then
      _files
      return
    fi
    # _describe wants value:description.
    candidates+=("\${\${line%%$'\\t'*}//:/\\\\:}:\${line#*$'\\t'}")
  done < <("$words[1]" __complete "\${(j: :)words[1,CURRENT]}" 2>/dev/null)
  _describe lockstep candidates
}
compdef _lockstep lockstep
`;

const fish = `# lockstep completion for fish; put this into ~/.config/fish/config.fish:  lockstep completion fish | source
function __lockstep_complete
  set -l lines (lockstep __complete (commandline --current-process --cut-at-cursor) 2>/dev/null)
  if test "$lines" = '${FILES_MARK}'
    __fish_complete_path (commandline --current-token)
  else
    printf '%s\\n' $lines
  end
end
complete --command lockstep --no-files --arguments '(__lockstep_complete)'
`;

export function completionScript(shell: Shell): string {
  return { bash, zsh, fish }[shell];
}
