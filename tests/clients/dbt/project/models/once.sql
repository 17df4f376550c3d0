{{ config(materialized='incremental', incremental_strategy='append') }}
select count(*) as orders from {{ ref('orders') }}
