-- health_read.lua reads an endpoint's state and changes nothing.
-- KEYS[1]  see health.lua
-- Returns  see health.lua
return answer('', 0)
