{{ config(materialized='incremental', unique_key='id', incremental_strategy=var('strategy', 'delete+insert')) }}
select id, customer, amount, {{ var('run', 1) }}::bigint as run
from {{ ref('paid') }}
{% if is_incremental() %}
where id >= (select max(id) from {{ this }}) - 1
{% endif %}
