#!/usr/bin/env bash
# What the images start: a script of textassay by its name, or any command; without one, the choice.
set -Eeuo pipefail

USAGE_ERROR=2

main() {
  if (($# == 0)) || [[ $1 == --help || $1 == -h ]]; then
    show_choice
    return
  fi
  local name=$1 script
  shift
  if [[ $name == textassay ]]; then
    exec "$TEXTASSAY_PYTHON" -m textassay "$@"
  fi
  script=$(find_script "$name")
  case $script in
    *.py) exec "$TEXTASSAY_PYTHON" "$script" "$@" ;;
    *.sh) exec bash "$script" "$@" ;;
  esac
  command -v -- "$name" >/dev/null || refuse "$name"
  exec "$name" "$@"
}

# find_script NAME: where train.sh, predict.py or scripts/predict.py lies; nothing for other names.
find_script() {
  local name=${1#./}
  case $name in
    train.sh | eval.sh) printf '%s' "$TEXTASSAY_HOME/$name" ;;
    *.py)
      name=${name#scripts/}
      if [[ $name != */* && -f $TEXTASSAY_HOME/scripts/$name ]]; then
        printf '%s' "$TEXTASSAY_HOME/scripts/$name"
      fi
      ;;
  esac
}

show_choice() {
  printf 'Give this image one of these, with --help for what each takes:\n\n'
  printf '  %s\n' textassay train.sh eval.sh
  (cd "$TEXTASSAY_HOME/scripts" && printf '  %s\n' *.py)
  printf '\nor any command, bash for example. /work is the current folder: mount what is to be read\n'
  printf 'or kept there, as in: docker run --rm -v "%s/runs:/work/runs" IMAGE eval.sh runs/...\n' "\$PWD"
}

refuse() {
  printf 'error: %s is neither a script of textassay nor a command in this image; %s\n' \
    "$1" 'run the image without arguments to see what there is.' >&2
  exit "$USAGE_ERROR"
}

main "$@"
