# Ends the server in the directory $1, and removes the directory, as soon as standard input closes.
#
# Standard input is a pipe that only the cluster's owner holds, so it closes however the owner ends. A process belongs
# to the cluster if its working directory lies in $1; that needs no recorded pid, which could be missing, because the
# owner died between starting a process and recording it, or be another's by now. Runs as the account of the server.
trap '' HUP INT QUIT TERM
directory=$1
while read -r _; do :; done

residents() {
  if [ -e /proc/self/cwd ]; then
    LC_ALL=C ls -ln /proc/[0-9]*/cwd 2>/dev/null | while read -r line; do
      case $line in
        *" -> $directory" | *" -> $directory/"* | *" -> $directory (deleted)")
          line=${line#*/proc/}
          echo "${line%%/*}"
          ;;
      esac
    done
  else
    # Without /proc (macOS): the postmaster, whose command line names the directory, and its children.
    postmaster=$(head -n 1 "$directory/data/postmaster.pid" 2>/dev/null) || return 0
    case $(ps -o command= -p "$postmaster" 2>/dev/null) in
      *"$directory"*)
        echo "$postmaster"
        ps -axo pid=,ppid= | while read -r pid parent; do [ "$parent" = "$postmaster" ] && echo "$pid"; done
        ;;
    esac
  fi
}

# A killed process vanishes when the kernel gets to it, and one that was just being forked shows up late, so this asks
# until nobody is left; the bound is for a process that cannot be killed, stuck in the kernel.
end_residents() {
  attempts=0
  while pids=$(residents); [ -n "$pids" ] && [ $attempts -lt 2000 ]; do
    kill -KILL $pids 2>/dev/null
    attempts=$((attempts + 1))
  done
}

# A killed postmaster leaves its small System V segment, which the kernel would keep until the next boot. Its number is
# the second one in line 7 of the lock file; it is ours if that postmaster created it and nobody is attached.
remove_shared_memory() {
  { read -r creator && read -r _ && read -r _ && read -r _ && read -r _ && read -r _ && read -r _ segment; } \
    < "$directory/data/postmaster.pid" || return 0
  [ -r /proc/sysvipc/shm ] || return 0
  while read -r _ id _ _ created_by _ attached _; do
    [ "$id $created_by $attached" = "$segment $creator 0" ] && ipcrm -m "$id"
  done < /proc/sysvipc/shm
}

end_residents
remove_shared_memory 2>/dev/null
rm -rf "$directory"
end_residents
